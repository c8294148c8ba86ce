import os
import stat
import sys
from pathlib import Path

import pytest

from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.files import remove_leftovers, write_atomically, write_text


def test_text_is_written_as_utf_8_and_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "é.txt"
    write_text(path, "Größe\n")
    assert path.read_bytes() == "Größe\n".encode()


def test_existing_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    write_text(path, "old")
    write_text(path, "new")
    assert path.read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.txt"]


def test_writer_gets_a_temporary_file_beside_the_path_with_its_suffix(tmp_path: Path) -> None:
    seen: list[Path] = []

    def write(temporary: Path) -> None:
        seen.append(temporary)
        temporary.write_bytes(b"x")
        assert not (tmp_path / "x.png").exists()

    write_atomically(tmp_path / "x.png", write)
    assert seen[0].parent == tmp_path
    assert seen[0].suffix == ".png"
    assert not seen[0].exists()


@pytest.mark.parametrize("error", [ValueError("half way"), KeyboardInterrupt(), OSError(28, "No space left on device")])
@pytest.mark.parametrize("existing", [False, True])
def test_write_that_fails_half_way_leaves_everything_as_it_was(
    error: BaseException, existing: bool, tmp_path: Path
) -> None:
    path = tmp_path / "x.txt"
    if existing:
        path.write_text("old")

    def write(temporary: Path) -> None:
        temporary.write_text("half of the n")
        raise error

    expected = LSegDiffError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected):
        write_atomically(path, write)
    assert [entry.name for entry in tmp_path.iterdir()] == (["x.txt"] if existing else [])
    assert not existing or path.read_text() == "old"


def test_full_disk_is_said_in_one_line_with_the_path(tmp_path: Path) -> None:
    def write(temporary: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(LSegDiffError, match=r"x\.txt: cannot be written \(No space left on device\)") as caught:
        write_atomically(tmp_path / "x.txt", write)
    assert "\n" not in str(caught.value)


def test_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("a file")
    with pytest.raises(LSegDiffError, match=r"x\.txt: cannot be written"):
        write_text(tmp_path / "folder" / "x.txt", "new")
    assert (tmp_path / "folder").read_text() == "a file"


def test_folder_in_place_of_the_file_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "x.txt").mkdir()
    with pytest.raises(LSegDiffError, match=r"x\.txt: cannot be written"):
        write_text(tmp_path / "x.txt", "new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.txt"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="Windows, or root, may write anywhere")
def test_folder_without_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(LSegDiffError, match=r"x\.txt: cannot be written \(Permission denied\)"):
            write_text(tmp_path / "x.txt", "new")
    finally:
        tmp_path.chmod(0o755)


@pytest.mark.skipif(sys.platform != "linux", reason="no /proc")
def test_folder_that_the_system_will_not_write_is_refused() -> None:
    with pytest.raises(LSegDiffError, match=r"/proc/x\.txt: cannot be written"):
        write_text(Path("/proc/x.txt"), "new")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_file_has_the_rights_of_any_new_file(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        write_text(tmp_path / "x.txt", "new")
        assert os.umask(umask) == umask, "the process keeps its umask"
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x.txt").stat().st_mode) == 0o666 & ~umask


def test_leftovers_are_known_by_the_name_that_was_written_and_a_file_of_such_a_name_stays(tmp_path: Path) -> None:
    seen: list[str] = []

    def write(temporary: Path) -> None:
        seen.append(temporary.name)
        raise KeyboardInterrupt

    for _ in range(20):
        with pytest.raises(KeyboardInterrupt):
            write_atomically(tmp_path / "a.b.png", write)
    for name in seen:
        (tmp_path / name).touch()
    remove_leftovers(tmp_path, {"a.b.png", seen[0]}.__contains__)
    assert [path.name for path in tmp_path.iterdir()] == [seen[0]]
    remove_leftovers(tmp_path / "none", {"a.b.png"}.__contains__)
