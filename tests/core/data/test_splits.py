from pathlib import Path

import pytest

from lsegdiff_core.data.splits import read_lines, read_split
from lsegdiff_core.errors import LSegDiffError

CONFIGS = Path(__file__).parents[3] / "configs"


def test_names_keep_the_files_order_without_comments_and_blanks(tmp_path: Path) -> None:
    path = tmp_path / "s.txt"
    path.write_bytes(b"# a comment\n\n  b one \r\na\n   # another\n")
    assert read_split(path) == ["b one", "a"]


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n"])
def test_empty_split_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "s.txt"
    path.write_text(text)
    with pytest.raises(LSegDiffError, match=r"s\.txt: is empty; let each line name an image .*, such as frame_001$"):
        read_split(path)


def test_missing_split_is_named(tmp_path: Path) -> None:
    with pytest.raises(LSegDiffError, match=r"gone\.txt: cannot be read \(No such file or directory\); give a text"):
        read_split(tmp_path / "gone.txt")


def test_split_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "s.txt"
    path.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(LSegDiffError, match=r"s\.txt: is no UTF-8 text; save it as such"):
        read_split(path)


def test_split_in_another_encoding_is_named(tmp_path: Path) -> None:
    path = tmp_path / "s.txt"
    path.write_text("a\nb\n", encoding="utf-16-le")
    with pytest.raises(LSegDiffError, match=r"s\.txt: is no UTF-8 text; save it as such"):
        read_split(path)


def test_name_given_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.txt"
    path.write_text("a\nb\na \n")
    with pytest.raises(LSegDiffError, match=r"s\.txt: names 'a' twice"):
        read_split(path)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*/*.txt")), ids=lambda path: path.stem)
def test_shipped_validation_lists_are_sound(path: Path) -> None:
    assert len(read_split(path)) >= 20


def test_a_mark_at_the_beginning_of_a_text_is_no_part_of_it(tmp_path: Path) -> None:
    path = tmp_path / "split.txt"
    path.write_text("one\ntwo\n", encoding="utf-8-sig")
    assert read_lines(path, "a number") == ["one", "two"]
