import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.export import EXPORTERS, SUFFIXES, export_labels, sidecar_path

FORMATS = sorted(EXPORTERS)
PROVENANCE = {
    "image": {"name": "colon/7.png", "height": 37, "width": 61},
    "sampling": {"seeds": [0, 1]},
    "classes": ["polyp", "instrument"],
}


def several() -> np.ndarray:
    """Three objects on a frame that is not square: a ring, one in two parts, one at the corner."""
    labels = np.zeros((37, 61), dtype=np.int32)
    labels[3:15, 4:20] = 1
    labels[6:10, 8:14] = 0
    labels[20:25, 10:13] = labels[30:33, 40:47] = 2
    labels[-4:, -6:] = 200
    return labels


CASES = {
    "several": several(),
    "one": (several() == 1).astype(np.uint8),
    "bool": several() > 0,
    "empty": np.zeros((9, 5), dtype=np.int64),
    "full": np.ones((5, 9), dtype=np.uint16),
    "fortran": np.asfortranarray(several()),
    "big-endian": several().astype(">i4"),
}


def export(labels: np.ndarray, folder: Path, format: str, provenance=PROVENANCE) -> Path:
    path = folder / f"mask{SUFFIXES[format]}"
    export_labels(labels, path, format, provenance)
    return path


def read(path: Path, format: str, shape: tuple[int, int]) -> np.ndarray:
    """Read a mask file with the libraries others would use."""
    if format != "coco":
        with Image.open(path) as image:
            return np.asarray(image)
    from pycocotools.coco import COCO

    dataset = COCO(str(path))
    labels = np.zeros(shape, dtype=int)
    for annotation in dataset.loadAnns(dataset.getAnnIds()):
        labels[dataset.annToMask(annotation) > 0] = annotation["id"]
    return labels


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # decoding in pycocotools
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("format", FORMATS)
def test_every_pixel_survives_the_round_trip(tmp_path, format, case):
    labels = CASES[case]
    expected = (labels > 0) * 255 if format == "png" else labels.astype(int)
    result = read(export(labels, tmp_path, format), format, labels.shape)
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(("format", "mode"), [("png", "L"), ("indexed-png", "P")])
def test_pngs_have_eight_bits_and_their_mode(tmp_path, format, mode):
    path = export(CASES["one"], tmp_path, format)
    assert path.read_bytes()[24] == 8
    with Image.open(path) as image:
        assert (image.format, image.mode) == ("PNG", mode)


def test_indexed_png_shows_every_object_in_its_own_colour(tmp_path):
    labels = np.arange(256).reshape(8, 32)
    with Image.open(export(labels, tmp_path, "indexed-png")) as image:
        colours = np.asarray(image.convert("RGB")).reshape(-1, 3)
    assert len(np.unique(colours, axis=0)) == 256
    # the colour map of Pascal VOC
    np.testing.assert_array_equal(
        colours[[0, 1, 2, 3, 8]], [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [64, 0, 0]]
    )


def test_indexed_png_refuses_more_than_255_objects(tmp_path):
    with pytest.raises(LSegDiffError, match=r"object id 256 .*'coco'"):
        export(np.arange(257)[None], tmp_path, "indexed-png")
    assert not list(tmp_path.iterdir())
    export(np.arange(257)[None], tmp_path, "coco")


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # decoding in pycocotools
def test_coco_keeps_the_holes_and_the_parts_of_an_object(tmp_path):
    labels = np.zeros((40, 60), np.uint8)
    labels[5:30, 5:30] = 1
    labels[12:20, 12:20] = 0  # a polygon would fill it
    labels[33:38, 50:58] = 1
    np.testing.assert_array_equal(read(export(labels, tmp_path, "coco"), "coco", labels.shape), labels)


def test_coco_describes_image_categories_and_objects(tmp_path):
    labels = several()
    data = json.loads(export(labels, tmp_path, "coco").read_text())
    assert data["images"] == [{"id": 1, "file_name": "colon/7.png", "height": 37, "width": 61}]
    assert data["categories"] == [{"id": 1, "name": "polyp"}, {"id": 2, "name": "instrument"}]
    assert [item["id"] for item in data["annotations"]] == [1, 2, 200]
    for item in data["annotations"]:
        rows, columns = np.nonzero(labels == item["id"])
        left, top = columns.min(), rows.min()
        assert item["bbox"] == [left, top, columns.max() + 1 - left, rows.max() + 1 - top]
        assert item["area"] == len(rows)
        assert (item["iscrowd"], item["image_id"], item["category_id"]) == (0, 1, 1)
        assert item["segmentation"]["size"] == [37, 61]
        assert isinstance(item["segmentation"]["counts"], str)


def test_coco_without_provenance_has_one_class_called_lesion(tmp_path):
    data = json.loads(export(several(), tmp_path, "coco", {}).read_text())
    assert data["categories"] == [{"id": 1, "name": "lesion"}]
    assert data["images"][0]["file_name"] == ""


def categories(labels: np.ndarray, folder: Path, provenance) -> tuple[list[str], dict[int, str]]:
    """Return the names of the categories and that of each object."""
    data = json.loads(export(labels, folder, "coco", provenance).read_text())
    names = {item["id"]: item["name"] for item in data["categories"]}
    assert list(names) == list(range(1, len(names) + 1))
    return list(names.values()), {item["id"]: names[item["category_id"]] for item in data["annotations"]}


def test_coco_gives_every_object_the_category_of_its_class(tmp_path):
    objects = [{"id": 200, "class": "polyp", "votes": 3}, {"id": 1, "class": "instrument"}]
    names, found = categories(several(), tmp_path, {**PROVENANCE, "objects": objects})
    assert names == ["polyp", "instrument"]
    assert found == {1: "instrument", 2: "polyp", 200: "polyp"}, "what is not known has the first class"


def test_coco_adds_a_class_that_only_an_object_has(tmp_path):
    objects = [{"id": index, "class": name} for index, name in ((1, "adenoma"), (2, "instrument"), (200, "adenoma"))]
    names, found = categories(several(), tmp_path, {**PROVENANCE, "objects": objects})
    assert names == ["polyp", "instrument", "adenoma"]
    assert found == {1: "adenoma", 2: "instrument", 200: "adenoma"}


@pytest.mark.parametrize("objects", [[], [{"id": 1}], [{"id": 9, "class": "polyp"}]])
def test_coco_takes_the_first_class_where_no_object_says_another(tmp_path, objects):
    names, found = categories(several(), tmp_path, {**PROVENANCE, "objects": objects})
    assert names == ["polyp", "instrument"]
    assert found == {1: "polyp", 2: "polyp", 200: "polyp"}


@pytest.mark.parametrize("classes", ["polyp", [], [1], None])
def test_coco_refuses_classes_that_are_no_list_of_names(tmp_path, classes):
    with pytest.raises(LSegDiffError, match=r"provenance\.classes"):
        export(several(), tmp_path, "coco", {"classes": classes})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_labels_give_the_same_bytes(tmp_path, format):
    first = export(several(), tmp_path, format).read_bytes()
    assert export(several(), tmp_path, format).read_bytes() == first


def test_sidecar_stands_beside_the_mask():
    assert sidecar_path("a/mask.png") == Path("a/mask.provenance.json")
    assert sidecar_path(Path("mask.v2.json")) == Path("mask.v2.provenance.json")


@pytest.mark.parametrize("format", FORMATS)
def test_sidecar_holds_provenance_format_and_hash(tmp_path, format):
    path = tmp_path / "new" / f"mask{SUFFIXES[format]}"
    assert export_labels(several(), path, format, PROVENANCE) == (path, sidecar_path(path))
    assert sorted(path.parent.iterdir()) == sorted([path, sidecar_path(path)])
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert json.loads(sidecar_path(path).read_text()) == {
        **PROVENANCE,
        "mask": {"file": path.name, "format": format, "sha256": digest},
    }


def test_labels_and_provenance_are_not_changed(tmp_path):
    labels, provenance = several(), json.loads(json.dumps(PROVENANCE))
    for name in FORMATS:
        export(labels, tmp_path, name, provenance)
    np.testing.assert_array_equal(labels, several())
    assert provenance == PROVENANCE


@pytest.mark.parametrize("suffix", [".PNG", ".png"])
def test_case_of_the_suffix_does_not_matter(tmp_path, suffix):
    export_labels(several(), str(tmp_path / f"mask{suffix}"), "png", {})
    assert (tmp_path / f"mask{suffix}").is_file()


@pytest.mark.parametrize(
    ("name", "format", "message"),
    [
        ("mask.png", "tiff", r"format: unknown name 'tiff'; choose one of png, indexed-png, coco"),
        ("mask.png", "coco", r"mask\.png: .*\*\.json"),
        ("mask.json", "png", r"mask\.json: .*\*\.png"),
        ("mask.tif", "indexed-png", r"mask\.tif: .*\*\.png"),
        ("mask", "png", r"mask: .*\*\.png"),
    ],
)
def test_unknown_format_or_other_suffix_is_refused_with_a_way_out(tmp_path, name, format, message):
    with pytest.raises(LSegDiffError, match=message):
        export_labels(several(), tmp_path / name, format, {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "labels",
    [
        np.zeros((4, 4, 3), dtype=np.uint8),
        np.zeros((4, 4), dtype=np.float32),
        np.zeros((0, 4), dtype=np.uint8),
        np.full((4, 4), -1),
    ],
)
@pytest.mark.parametrize("format", FORMATS)
def test_what_are_no_labels_is_refused(tmp_path, format, labels):
    with pytest.raises(LSegDiffError, match=r"^labels: "):
        export(labels, tmp_path, format)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [float("nan"), Path("x"), np.float32(1)])
def test_provenance_that_is_no_json_is_refused_and_nothing_written(tmp_path, value):
    with pytest.raises(LSegDiffError, match=r"^provenance: "):
        export(several(), tmp_path, "png", {"score": value})
    assert not list(tmp_path.iterdir())


@pytest.fixture
def full_disk(monkeypatch):
    """Let the n-th call of a method of Path fail."""

    def install(method: str, call: int) -> None:
        original = getattr(Path, method)
        calls = []

        def failing(self, *args, **options):
            calls.append(self)
            if len(calls) == call:
                raise OSError(28, "No space left on device")
            return original(self, *args, **options)

        monkeypatch.setattr(Path, method, failing)

    return install


STAGES = [("write_bytes", 1), ("write_text", 1), ("chmod", 1), ("chmod", 2), ("replace", 1), ("replace", 2)]


@pytest.mark.parametrize(("method", "call"), STAGES)
def test_a_write_that_fails_leaves_nothing(tmp_path, full_disk, method, call):
    full_disk(method, call)
    with pytest.raises(LSegDiffError, match=r"mask\..*No space left.*nothing was changed"):
        export(several(), tmp_path, "png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("method", "call"), STAGES)
def test_a_write_that_fails_leaves_the_old_files(tmp_path, full_disk, method, call):
    export(CASES["one"], tmp_path, "png", {"run": "old"})
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    full_disk(method, call)
    with pytest.raises(LSegDiffError, match="nothing was changed"):
        export(several(), tmp_path, "png", {"run": "new"})
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_sidecar_that_cannot_be_replaced_takes_the_mask_back(tmp_path):
    sidecar_path(tmp_path / "mask.png").mkdir()
    with pytest.raises(LSegDiffError, match=r"mask\.provenance\.json: cannot be written"):
        export(several(), tmp_path, "png")
    assert [path.name for path in tmp_path.iterdir()] == ["mask.provenance.json"]


def test_an_interrupt_between_the_renames_takes_the_mask_back(tmp_path, monkeypatch):
    export(CASES["one"], tmp_path, "png")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    replace = Path.replace

    def interrupted(self, target):
        if Path(target).name == "mask.provenance.json":
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export(several(), tmp_path, "png")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_successful_export_replaces_both_files(tmp_path):
    export(CASES["one"], tmp_path, "png", {"run": "old"})
    path = export(several(), tmp_path, "png", {"run": "new"})
    assert sorted(file.name for file in tmp_path.iterdir()) == ["mask.png", "mask.provenance.json"]
    np.testing.assert_array_equal(read(path, "png", (37, 61)), (several() > 0) * 255)
    assert json.loads(sidecar_path(path).read_text())["run"] == "new"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_files_have_the_permissions_of_any_new_file(tmp_path):
    path = export(several(), tmp_path, "png")
    (tmp_path / "plain").touch()
    expected = (tmp_path / "plain").stat().st_mode
    assert (path.stat().st_mode, sidecar_path(path).stat().st_mode) == (expected, expected)


@pytest.mark.parametrize(
    "objects", [None, [1, "instrument"], [{"class": "polyp"}], [{"id": "1"}], [{"id": 1, "class": 3}], {"id": 1}]
)
def test_coco_refuses_a_list_of_objects_that_is_none(tmp_path, objects):
    with pytest.raises(LSegDiffError, match=r"provenance\.objects"):
        categories(several(), tmp_path, {**PROVENANCE, "objects": objects})
