from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from lsegdiff_core.bundle import bundle_hash, read_manifest
from lsegdiff_core.doctor import TOLERANCE, Card, Check, check, examine
from lsegdiff_core.errors import LSegDiffError


def test_report_names_versions_devices_and_bundle(tiny_bundle: Path) -> None:
    report = examine(str(tiny_bundle))
    assert {"napari-lsegdiff", "python", "torch"} <= set(report.versions)
    assert "threads" in report.devices["cpu"]
    assert "GB free" in report.devices["cpu"]
    text = str(report)
    for part in ("tiny: random weights for tests", "none needed", bundle_hash(tiny_bundle)):
        assert part in text
    assert str(tiny_bundle.parent) not in text, "a folder may name a person"


def test_report_without_a_bundle() -> None:
    report = examine(None)
    assert report.card is None
    assert "bundle" not in str(report)


def test_a_folder_that_is_no_bundle_is_said(tmp_path: Path) -> None:
    with pytest.raises(LSegDiffError, match="not found"):
        examine(str(tmp_path))


@pytest.mark.parametrize("training", [{}, {"validation": {}}, {"validation": None}])
def test_a_bundle_without_scores_has_a_card(tiny_bundle: Path, training: dict[str, object]) -> None:
    manifest = dataclasses.replace(read_manifest(tiny_bundle), training=training)
    assert ("validation", "none") in list(Card(manifest, tiny_bundle, "0").rows())


@pytest.mark.parametrize(
    ("scores", "shown"),
    [
        (
            {"step": 1400, "score": 0.8309, "dice_10": 0.83, "dice_1": 0.8322, "dice_4": 0.8304},
            "Dice 0.832 at 1 step, 0.830 at 4, 0.830 at 10",
        ),
        ({"dice_4": 0.9, "dice_20": 1}, "Dice 0.900 at 4 steps, 1.000 at 20"),
        ({"score": 0.5, "dice_4": "good", "dice_low": 0.4}, ""),
    ],
)
def test_a_card_says_the_dice_only(tiny_bundle: Path, scores: dict[str, object], shown: str) -> None:
    manifest = dataclasses.replace(read_manifest(tiny_bundle), training={"validation": scores})
    assert Card(manifest, tiny_bundle, "0").validation == shown


@pytest.mark.parametrize(
    ("config", "shown"),
    [
        ({"data": {"sources": [{"folder": "a", "validation": "a.txt"}, {"folder": "b"}]}}, " (held-out images of a)"),
        ({"data": {"sources": [{"folder": "b", "validation": None}]}}, ""),
        ({"data": None}, ""),
        (None, ""),
    ],
)
def test_a_card_says_of_which_images_the_dice_is(tiny_bundle: Path, config: object, shown: str) -> None:
    training = {"validation": {"dice_4": 0.9}, "config": config}
    manifest = dataclasses.replace(read_manifest(tiny_bundle), training=training)
    assert Card(manifest, tiny_bundle, "0").validation == f"Dice 0.900 at 4 steps{shown}"


def test_check_passes_where_the_bundle_was_made(tiny_bundle: Path) -> None:
    found = check(str(tiny_bundle), "cpu")
    assert found.passed
    assert str(found).startswith("Passed: on cpu the model gives the result that it was released with")


@pytest.mark.parametrize("difference", [1.1 * TOLERANCE, float("nan")])
def test_a_large_difference_does_not_pass(difference: float) -> None:
    found = Check("cuda", difference)
    assert not found.passed
    assert "Not passed: on cuda the model gives another result than it was released with" in str(found)
