"""Masks to files and back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.export import EXPORTERS, SUFFIXES, export_labels
from lsegdiff_core.journal_format import NO_STROKE
from lsegdiff_core.saved import read_saved, user_part

# decoding in pycocotools
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SHAPE = (20, 30)
ABOUT = {"image": {"name": "x.png"}, "sampling": {"steps": 3, "strength": 0.5}}


def two_objects() -> np.ndarray:
    labels = np.zeros(SHAPE, np.int64)
    labels[2:9, 3:12] = 4
    labels[4:6, 5:7] = 0  # a hole
    labels[12:, 20:] = 2
    return labels


def strokes() -> np.ndarray:
    drawn = np.full(SHAPE, NO_STROKE, np.int32)
    drawn[4, 5:8] = 4
    drawn[0, :] = 0
    return drawn


@pytest.mark.parametrize("format", ["indexed-png", "coco"])
@pytest.mark.parametrize("by_sidecar", [False, True])
def test_round_trip(format: str, by_sidecar: bool, tmp_path: Path):
    about = {**ABOUT, "objects": [{"id": 2}, {"id": 4}], **user_part(strokes(), 12.34)}
    mask, sidecar = export_labels(two_objects(), tmp_path / f"x{SUFFIXES[format]}", format, about)
    saved = read_saved(sidecar if by_sidecar else mask)
    np.testing.assert_array_equal(saved.labels, two_objects())
    assert saved.labels.dtype == np.uint8
    np.testing.assert_array_equal(saved.strokes, strokes())
    assert saved.provenance["sampling"] == ABOUT["sampling"]
    assert saved.provenance["seconds"] == 12.3
    assert saved.provenance["changed"] == pytest.approx(33 / 600)
    assert "strokes" not in saved.provenance


@pytest.mark.parametrize("number", [0, -1])
def test_coco_object_whose_id_is_none_is_not_lost_in_silence(number: int, tmp_path: Path):
    mask, _ = export_labels(two_objects(), tmp_path / "x.json", "coco", {})
    data = json.loads(mask.read_text(encoding="utf-8"))
    data["annotations"][0]["id"] = number
    mask.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(LSegDiffError, match=f"x.json: cannot be read as COCO .*id {number}: ids begin at 1"):
        read_saved(mask)


@pytest.mark.parametrize("format", list(EXPORTERS))
def test_every_format_can_be_read_back(format: str, tmp_path: Path):
    mask, _ = export_labels(two_objects() > 0, tmp_path / f"x{SUFFIXES[format]}", format, {"objects": [{"id": 1}]})
    np.testing.assert_array_equal(read_saved(mask).labels, two_objects() > 0)


def test_black_and_white_mask_gets_the_id_of_its_only_object(tmp_path: Path):
    mask, _ = export_labels(two_objects() > 0, tmp_path / "x.png", "png", {"objects": [{"id": 7}]})
    assert set(np.unique(read_saved(mask).labels)) == {0, 7}


def test_mask_from_elsewhere_is_one_object_and_nobody_knows_more(tmp_path: Path):
    Image.fromarray((two_objects() > 0).astype(np.uint8) * np.uint8(255)).save(tmp_path / "x.png")
    saved = read_saved(tmp_path / "x.png")
    np.testing.assert_array_equal(saved.labels, two_objects() > 0)
    assert (saved.strokes == NO_STROKE).all()
    assert saved.provenance == {}


def test_large_ids_survive_in_coco(tmp_path: Path):
    labels = two_objects() * 100
    mask, _ = export_labels(labels, tmp_path / "x.json", "coco", {})
    np.testing.assert_array_equal(read_saved(mask).labels, labels)


def test_user_who_did_nothing(tmp_path: Path):
    assert user_part(None, 0) == {"strokes": [], "changed": 0.0, "seconds": 0.0}
    assert user_part(np.full(SHAPE, NO_STROKE, np.int32), 0)["changed"] == 0.0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "COCO annotations of one image"),
        ("[]", "COCO annotations of one image"),
        ('{"images": [{"height": 4, "width": "x"}], "annotations": []}', "COCO annotations of one image"),
        ('{"images": [], "annotations": []}', "COCO annotations of one image"),
        ("{", "is damaged or no JSON file"),
    ],
)
def test_json_that_is_no_mask_is_named(content: str, message: str, tmp_path: Path):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(LSegDiffError, match=rf"x\.json: .*{message}"):
        read_saved(tmp_path / "x.json")


@pytest.mark.parametrize("file", ["gone.png", "../x.png", 5, None])
def test_sidecar_without_its_mask_is_named(file: object, tmp_path: Path):
    sidecar = tmp_path / "x.provenance.json"
    sidecar.write_text(json.dumps({"mask": {"file": file}}))
    with pytest.raises(LSegDiffError, match=r"x\.provenance\.json: mask\.file: .* is not beside it"):
        read_saved(sidecar)


@pytest.mark.parametrize("format", ["indexed-png", "coco"])
def test_sidecar_of_another_mask_gives_no_strokes(format: str, tmp_path: Path):
    about = {**ABOUT, "objects": [{"id": 2}, {"id": 4}], **user_part(strokes(), 1)}
    mask, sidecar = export_labels(two_objects(), tmp_path / f"x{SUFFIXES[format]}", format, about)
    assert read_saved(mask).note == ""
    theirs = sidecar.read_text()
    export_labels(two_objects() // 2, mask, format, {})
    sidecar.write_text(theirs)
    saved = read_saved(mask)
    np.testing.assert_array_equal(saved.labels, two_objects() // 2)
    assert (saved.strokes == NO_STROKE).all()
    assert saved.provenance["sampling"] == ABOUT["sampling"]
    assert f"{mask.name} was changed elsewhere" in saved.note
    assert "your strokes are left out" in saved.note
