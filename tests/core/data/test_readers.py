import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lsegdiff_core.data.readers import list_images, read_pairs
from lsegdiff_core.errors import LSegDiffError

Write = Callable[[Path], Path]
NAMES = ("a", "b", "c")


def plain(root: Path, write: Write) -> None:
    for name in NAMES:
        write(root / "images" / f"{name}.jpg")
        write(root / "masks" / f"{name}.png")


def cvc(root: Path, write: Write) -> None:
    for name in NAMES:
        write(root / "Original" / f"{name}.tif")
        write(root / "Ground Truth" / f"{name}.tif")


def polypgen(root: Path, write: Write) -> None:
    for name, centre in zip(NAMES, ("C1", "C1", "C6"), strict=True):
        write(root / f"data_{centre}" / f"images_{centre}" / f"{name}.jpg")
        write(root / f"data_{centre}" / f"masks_{centre}" / f"{name}_mask.jpg")


def ph2(root: Path, write: Write) -> None:
    for name in NAMES:
        write(root / name / f"{name}_Dermoscopic_Image" / f"{name}.bmp")
        write(root / name / f"{name}_lesion" / f"{name}_lesion.bmp")


def ph2_as_distributed(root: Path, write: Write) -> None:
    ph2(root / "PH2 Dataset images", write)


def ph2_with_named_images(root: Path, write: Write) -> None:
    for name in NAMES:
        write(root / name / f"{name}_Dermoscopic_Image" / f"{name}_Dermoscopic_Image.bmp")
        write(root / name / f"{name}_lesion" / f"{name}_lesion.bmp")


@pytest.mark.parametrize("layout", [plain, cvc, polypgen, ph2, ph2_as_distributed, ph2_with_named_images])
def test_layout_gives_sorted_pairs_of_files_that_exist(
    layout: Callable[[Path, Write], None], tmp_path: Path, write_image: Write
) -> None:
    layout(tmp_path, write_image)
    pairs = read_pairs(tmp_path)
    assert [pair.name for pair in pairs] == list(NAMES)
    for pair in pairs:
        assert pair.image.is_file()
        assert pair.mask.is_file()
        assert pair.image != pair.mask
        assert pair.mask.stem.split("_")[0] == pair.image.stem.split("_")[0] == pair.name
        assert any(word in str(pair.mask.parent.name) for word in ("mask", "lesion", "Truth"))


@pytest.mark.parametrize("suffix", [".JPG", ".jpeg", ".PNG", ".tiff", ".bmp"])
def test_suffixes_are_read_in_any_case(suffix: str, tmp_path: Path, write_image: Write) -> None:
    write_image(tmp_path / "images" / f"x{suffix}")
    write_image(tmp_path / "masks" / "x.png")
    assert [pair.image.suffix for pair in read_pairs(tmp_path)] == [suffix]


def test_files_that_are_no_images_are_passed_over(tmp_path: Path, write_image: Write) -> None:
    plain(tmp_path, write_image)
    (tmp_path / "images" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "masks" / "._a.png").write_bytes(b"what macOS leaves behind")
    assert len(read_pairs(tmp_path)) == 3


def test_image_without_mask_is_named(tmp_path: Path, write_image: Write) -> None:
    plain(tmp_path, write_image)
    (tmp_path / "masks" / "b.png").unlink()
    with pytest.raises(LSegDiffError, match=r"images/b\.jpg: image without mask"):
        read_pairs(tmp_path)


def test_mask_without_image_is_named(tmp_path: Path, write_image: Write) -> None:
    plain(tmp_path, write_image)
    (tmp_path / "images" / "c.jpg").unlink()
    with pytest.raises(LSegDiffError, match=r"masks/c\.png: mask without image"):
        read_pairs(tmp_path)


def test_name_that_occurs_twice_is_refused(tmp_path: Path, write_image: Write) -> None:
    plain(tmp_path, write_image)
    write_image(tmp_path / "images" / "a.png")
    with pytest.raises(LSegDiffError, match=r"a\.(jpg|png): same name as .*a\.(jpg|png)"):
        read_pairs(tmp_path)


def test_name_in_two_centres_is_refused(tmp_path: Path, write_image: Write) -> None:
    polypgen(tmp_path, write_image)
    write_image(tmp_path / "data_C6" / "images_C6" / "a.jpg")
    with pytest.raises(LSegDiffError, match="same name as"):
        read_pairs(tmp_path)


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(LSegDiffError, match="nowhere: no such folder"):
        read_pairs(tmp_path / "nowhere")


def test_file_in_place_of_the_folder_is_refused(tmp_path: Path, write_image: Write) -> None:
    with pytest.raises(LSegDiffError, match=r"x\.png: no such folder"):
        read_pairs(write_image(tmp_path / "x.png"))


def test_empty_folders_hold_no_images(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    with pytest.raises(LSegDiffError, match="no images found"):
        read_pairs(tmp_path)


@pytest.mark.parametrize("made", [(), ("images",), ("images", "Ground Truth"), ("photos",)])
def test_unknown_layout_is_refused(made: tuple[str, ...], tmp_path: Path, write_image: Write) -> None:
    for folder in made:
        write_image(tmp_path / folder / "a.png")
    with pytest.raises(LSegDiffError, match=r"images/ and masks/"):
        read_pairs(tmp_path)


def split(path: Path, *names: str) -> Path:
    path.write_text("\n".join(names))
    return path


def test_split_chooses_and_exclude_leaves_out(tmp_path: Path, write_image: Write) -> None:
    plain(tmp_path, write_image)
    first, second = split(tmp_path / "1.txt", "c", "a"), split(tmp_path / "2.txt", "a")
    assert [pair.name for pair in read_pairs(tmp_path, split=first)] == ["a", "c"]
    assert [pair.name for pair in read_pairs(tmp_path, exclude=[second])] == ["b", "c"]
    assert [pair.name for pair in read_pairs(tmp_path, exclude=[first, second])] == ["b"]
    assert [pair.name for pair in read_pairs(tmp_path, split=first, exclude=[second])] == ["c"]


def test_split_with_an_unknown_name_is_refused(tmp_path: Path, write_image: Write) -> None:
    plain(tmp_path, write_image)
    with pytest.raises(LSegDiffError, match=r"s\.txt: names 'zebra'"):
        read_pairs(tmp_path, split=split(tmp_path / "s.txt", "a", "zebra"))


def test_split_name_is_not_a_prefix(tmp_path: Path, write_image: Write) -> None:
    for name in ("1", "10"):
        write_image(tmp_path / "images" / f"{name}.png")
        write_image(tmp_path / "masks" / f"{name}.png")
    assert [pair.name for pair in read_pairs(tmp_path, exclude=[split(tmp_path / "s.txt", "1")])] == ["10"]


def test_missing_exclude_list_is_an_error_and_not_an_empty_list(tmp_path: Path, write_image: Write) -> None:
    plain(tmp_path, write_image)
    with pytest.raises(LSegDiffError, match=r"gone\.txt: cannot be read"):
        read_pairs(tmp_path, exclude=[tmp_path / "gone.txt"])


def test_list_images_sorts_and_skips_the_rest(tmp_path: Path, write_image: Write) -> None:
    for name in ("b.png", "a.jpg"):
        write_image(tmp_path / name)
    (tmp_path / "notes.txt").write_text("x")
    assert [path.name for path in list_images(tmp_path)] == ["a.jpg", "b.png"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
def test_only_files_are_images(tmp_path: Path, write_image: Write) -> None:
    write_image(tmp_path / "images" / "a.png")
    write_image(tmp_path / "masks" / "a.png")
    os.mkfifo(tmp_path / "images" / "pipe.png")
    (tmp_path / "images" / "folder.png").mkdir()
    assert [path.name for path in list_images(tmp_path / "images")] == ["a.png"]
    assert [pair.name for pair in read_pairs(tmp_path)] == ["a"]


def test_list_images_needs_a_folder_with_images(tmp_path: Path) -> None:
    with pytest.raises(LSegDiffError, match="holds no images"):
        list_images(tmp_path)
    with pytest.raises(LSegDiffError, match="no such folder"):
        list_images(tmp_path / "nowhere")
