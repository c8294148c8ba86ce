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
    for part in ("tiny: random weights for tests", "none needed", "score 0.0", bundle_hash(tiny_bundle)):
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


def test_check_passes_where_the_bundle_was_made(tiny_bundle: Path) -> None:
    found = check(str(tiny_bundle), "cpu")
    assert found.passed
    assert str(found).startswith("Passed on cpu")


@pytest.mark.parametrize("difference", [1.1 * TOLERANCE, float("nan")])
def test_a_large_difference_does_not_pass(difference: float) -> None:
    found = Check("cuda", difference)
    assert not found.passed
    assert "Not passed on cuda: the replay differs by" in str(found)
