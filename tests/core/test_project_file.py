"""The file of an annotation project."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from lsegdiff_core.classes import DEFAULT_CLASSES
from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.project_file import FILE, FORMAT, Item, ProjectFile, append_images, project_text, read_project_file

ITEMS = (
    Item("../frames/a.png", "a"),
    Item("../frames/ü b.png", "ü b", "skipped", 0.125, 3.5, "blurred, see video", ("blur", "left"), "is no image"),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project's folder with its file."""
    (tmp_path / FILE).write_text(project_text(DEFAULT_CLASSES, ITEMS), encoding="utf-8")
    return tmp_path


def test_what_was_written_is_read(folder: Path):
    assert read_project_file(folder) == ProjectFile(FORMAT, DEFAULT_CLASSES, ITEMS)


def test_an_item_takes_one_line_and_is_silent_on_what_is_as_by_default(folder: Path):
    lines = (folder / FILE).read_text(encoding="utf-8").splitlines()
    assert '  {"image": "../frames/a.png", "name": "a"},' in lines
    assert len(lines) == 4 + len(ITEMS) + 2


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda data: "{ not json", "is damaged or no JSON file"),
        (lambda data: [], "expected an object with named fields, got list"),
        (lambda data: data | {"format": 99}, "has format 99, this version reads 1; update"),
        (lambda data: data | {"items": []}, "holds no items"),
        (lambda data: data | {"classes": []}, "classes: there are none; add one"),
        (lambda data: data | {"classes": data["classes"] * 2}, "'polyp' is there twice"),
        (lambda data: data | {"classes": [{"name": "a", "colour": "blueish"}]}, "'blueish' is no colour"),
        (lambda data: data | {"classes": [{"name": " ", "colour": "#000000"}]}, "a class needs a name"),
        (lambda data: data | {"items": "a.png"}, r"items: expected a list, got str"),
        (lambda data: data | {"items": [{"image": "a.png"}]}, r"items\[0\].*name"),
        (lambda data: data | {"items": [{"image": "a.png", "name": "a", "status": "done"}]}, "unknown name 'done'"),
        (lambda data: data | {"items": [{"image": "a.png", "name": "../a"}]}, "'../a' is no file's name"),
        (lambda data: data | {"items": data["items"] * 2}, "names 'a' twice"),
        (lambda data: data | {"extra": 1}, "unknown key 'extra'"),
    ],
)
def test_file_edited_into_nonsense_is_named(folder: Path, edit, message: str):
    path = folder / FILE
    bad = edit(json.loads(path.read_text(encoding="utf-8")))
    path.write_text(bad if isinstance(bad, str) else json.dumps(bad))
    with pytest.raises(LSegDiffError, match=f"{FILE}.*{message}"):
        read_project_file(folder)


@pytest.mark.parametrize("folds_case", [False, True])
def test_names_that_differ_in_case_are_two_files_where_the_system_says_so(folder: Path, folds_case: bool):
    path = folder / FILE
    data = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(data | {"items": [*data["items"], {"image": "A.png", "name": "A"}]}))
    if folds_case:
        path.with_name(FILE.upper()).touch()
        with pytest.raises(LSegDiffError, match="names 'a' and 'A', which are one file here; rename"):
            read_project_file(folder)
    elif not path.with_name(FILE.upper()).exists():  # not on Windows and macOS
        assert [item.name for item in read_project_file(folder).items][-1] == "A"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", '"."'),
        ("name", '".."'),
        ("name", r'"a\\b"'),
        ("name", r'"a\u0000"'),
        ("image", '""'),
        ("image", r'"a\u0000.png"'),
        ("disagreement", "NaN"),
        ("disagreement", "Infinity"),
        ("disagreement", "1.01"),
        pytest.param("image", '"\\ud83d.png"', marks=pytest.mark.skipif(os.name == "nt", reason="a name on Windows")),
        ("disagreement", "-0.5"),
        ("seconds", "NaN"),
        ("seconds", "1e999"),
        ("seconds", "9" * 400),
        ("seconds", "-1"),
    ],
)
def test_value_that_makes_no_sense_is_named_with_its_item(folder: Path, field: str, value: str):
    item = {"image": '"b.png"', "name": '"b"'} | {field: value}
    written = ", ".join(f'"{key}": {text}' for key, text in item.items())
    path = folder / FILE
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("\n ]\n}", f",\n  {{{written}}}\n ]\n}}"), encoding="utf-8")
    with pytest.raises(LSegDiffError, match=rf"{FILE}\.items\[2\](: |\.){field}: "):
        read_project_file(folder)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
@pytest.mark.parametrize("image", ["a\\b.png", "...png", "."])
def test_name_of_any_image_can_be_read_again(tmp_path: Path, image: str):
    items: dict[str, Item] = {}
    append_images(items, [tmp_path / image, tmp_path / "x" / image], tmp_path / "project")
    (tmp_path / FILE).write_text(project_text(DEFAULT_CLASSES, items.values()), encoding="utf-8")
    assert read_project_file(tmp_path).items == tuple(items.values())


def test_folder_without_a_project_is_named(tmp_path: Path):
    with pytest.raises(LSegDiffError, match=f"holds no {FILE}; choose a project's folder"):
        read_project_file(tmp_path)


def test_a_file_name_that_is_no_text_is_kept(tmp_path: Path) -> None:
    """Linux takes any bytes for a name; Python holds those that are not UTF-8 as lone surrogates."""
    image = tmp_path / "caf\udce9.png"
    items: dict[str, Item] = {}
    append_images(items, [image], tmp_path)
    (tmp_path / FILE).write_text(project_text(DEFAULT_CLASSES, items.values()), encoding="utf-8")
    (item,) = read_project_file(tmp_path).items
    assert item == Item("caf\udce9.png", "caf_")
