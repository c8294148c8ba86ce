"""The page of results is made of the committed results, and holds them."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def report() -> ModuleType:
    spec = importlib.util.spec_from_file_location("report", ROOT / "benchmarks" / "report.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def scores(report: ModuleType) -> set[str]:
    """Dice and IoU of the released bundle on every list, as the page writes them."""
    folder = report.RESULTS / report.RELEASED
    files = [path for name in ("kvasir100", "cvc54", "validation-*") for path in folder.glob(f"{name}.json")]
    results = {path.stem: json.loads(path.read_text(encoding="utf-8"))["summary"] for path in files}
    assert {"kvasir100", "cvc54"} <= set(results)
    found = {f"{row['dice']:.4f}" for rows in results.values() for row in rows}
    return found | {f"{row['iou']:.4f}" for name in ("kvasir100", "cvc54") for row in results[name]}


def test_report_is_written_from_the_results(report: ModuleType, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(report, "DOCS", tmp_path)
    report.main()
    page = (tmp_path / "benchmarks.md").read_text(encoding="utf-8")
    assert all(score in page for score in scores(report))
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", page):
        assert (tmp_path / picture).stat().st_size > 5000
        assert (ROOT / "docs" / picture).exists()


def test_the_committed_page_holds_every_released_number(report: ModuleType) -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    missing = [score for score in scores(report) if score not in page]
    assert not missing, "run make bench"
