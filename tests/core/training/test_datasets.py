import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lsegdiff_core.data.phantom import draw_phantom
from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.training.config import DataConfig, SourceConfig
from lsegdiff_core.training.datasets import Store, batch_indices, load_stores, split_pairs

Write = Callable[..., Path]


@pytest.fixture
def folders(tmp_path: Path, write_image: Write) -> tuple[Path, Path]:
    """A data folder of two sources with test lists, and a config folder with validation lists."""
    data, beside = tmp_path / "data", tmp_path / "config"
    beside.mkdir()
    for source, names in (("one", "abcdef"), ("two", "abxy")):
        for index, name in enumerate(names):
            image = np.full((20, 30, 3), 60 + 20 * index, np.uint8)
            mask = np.zeros((20, 30), np.uint8)
            mask[5:15, 10:20] = 255
            write_image(data / source / "images" / f"{name}.png", image)
            write_image(data / source / "masks" / f"{name}.png", mask)
    (data / "one" / "test.txt").write_text("a\nb\n")
    (beside / "validation_one.txt").write_text("c\n")
    (beside / "validation_two.txt").write_text("b\nx\n")
    return data, beside


ONE = SourceConfig("one", exclude=("one/test.txt",), validation="validation_one.txt")
TWO = SourceConfig("two", validation="validation_two.txt")


def short(store: Store) -> set[str]:
    return {"/".join((Path(name).parts[-3], Path(name).stem)) for name in store.names}


def test_training_validation_and_excluded_images_are_disjoint(folders: tuple[Path, Path]) -> None:
    train, validation = load_stores(DataConfig((ONE, TWO)), *folders, 16)
    assert short(train) == {"one/d", "one/e", "one/f", "two/a", "two/y"}
    assert short(validation) == {"one/c", "two/b", "two/x"}
    assert len(train) == len(train.images) == len(train.masks) == 5


def test_same_name_in_two_sources_is_held_out_of_its_own_source_only(folders: tuple[Path, Path]) -> None:
    train, validation = split_pairs(DataConfig((ONE, TWO)), *folders)
    assert [pair.image.parts[-3] for pair in train if pair.name == "a"] == ["two"]
    assert [pair.image.parts[-3] for pair in validation if pair.name == "b"] == ["two"]


def test_source_without_validation_list_is_trained_on_whole(folders: tuple[Path, Path]) -> None:
    train, validation = split_pairs(DataConfig((SourceConfig("two"),)), *folders)
    assert [pair.name for pair in train] == ["a", "b", "x", "y"]
    assert validation == []


def test_names_left_out_are_used_for_nothing(folders: tuple[Path, Path]) -> None:
    data, beside = folders
    (beside / "hospital.txt").write_text("c\ne\n")
    one = dataclasses.replace(ONE, leave_out="hospital.txt")
    (beside / "validation_one.txt").write_text("c\nd\n")
    train, validation = split_pairs(DataConfig((one,)), data, beside)
    assert [pair.name for pair in train] == ["f"]
    assert [pair.name for pair in validation] == ["d"]


@pytest.mark.parametrize("name", ["a", "zebra"], ids=["a test image", "nowhere"])
def test_validation_name_that_is_not_a_training_image_is_refused(name: str, folders: tuple[Path, Path]) -> None:
    data, beside = folders
    (beside / "validation_one.txt").write_text(f"c\n{name}\n")
    with pytest.raises(LSegDiffError, match=rf"validation_one\.txt: '{name}' is not among the training images of one"):
        load_stores(DataConfig((ONE,)), data, beside, 16)


def test_squares_hold_the_image_and_its_mask(folders: tuple[Path, Path]) -> None:
    train, _ = load_stores(DataConfig((ONE, TWO)), *folders, 20)
    assert train.images.shape == (5, 3, 20, 20)
    assert train.masks.shape == (5, 1, 20, 20)
    assert train.images.dtype == train.masks.dtype == torch.uint8
    first = next(i for i, name in enumerate(train.names) if name.endswith("one/images/d.png"))
    assert (train.images[first] == 120).all()
    # columns 10 to 20 of 30 are the middle third
    share = train.masks[first].float().mean().item() / 255
    assert share == pytest.approx(100 / 600, rel=0.03)
    assert train.masks[first, 0, 10, 10] == 255
    assert train.masks[first, 0, 10, 2] == 0


def test_black_border_is_cropped_from_image_and_mask_alike(tmp_path: Path, write_image: Write) -> None:
    image, mask = np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40), np.uint8)
    image[:, 8:] = 150
    mask[:, 24:] = 255
    write_image(tmp_path / "s" / "images" / "a.png", image)
    write_image(tmp_path / "s" / "masks" / "a.png", mask)
    config = DataConfig((SourceConfig("s"),), validation_phantoms=1)
    train, _ = load_stores(config, tmp_path, tmp_path, 32)
    assert train.images[0, :, :, 1:].min() == 150
    assert (train.masks[0, 0, :, :15] == 0).all()
    assert (train.masks[0, 0, :, 17:] == 255).all()


def test_mask_of_another_size_is_named(folders: tuple[Path, Path], write_image: Write) -> None:
    data, beside = folders
    write_image(data / "one" / "masks" / "d.png", np.zeros((20, 31), np.uint8))
    with pytest.raises(LSegDiffError, match=r"masks/d\.png: is 20 x 31 pixels, its image 20 x 30; give both"):
        load_stores(DataConfig((ONE,)), data, beside, 16)


@pytest.mark.parametrize(
    ("config", "part"),
    [
        (DataConfig(), "training"),
        (DataConfig(validation_phantoms=1), "training"),
        (DataConfig(phantoms=1), "validation"),
    ],
)
def test_empty_part_is_refused(config: DataConfig, part: str, tmp_path: Path) -> None:
    with pytest.raises(LSegDiffError, match=f"the {part} part holds no images"):
        load_stores(config, tmp_path, tmp_path, 16)


def test_phantoms_of_training_validation_and_samples_have_different_seeds(stores: tuple[Store, Store]) -> None:
    train, validation = ([int(name.removeprefix("phantom ")) for name in store.names] for store in stores)
    assert train == [10_000, 10_001, 10_002]
    assert validation == [5_000, 5_001]
    assert not torch.equal(stores[0].images[0], stores[0].images[1])


def test_every_seventh_phantom_is_empty(tmp_path: Path) -> None:
    train, _ = load_stores(DataConfig(phantoms=8, validation_phantoms=1), tmp_path, tmp_path, 16)
    assert [bool(mask.any()) for mask in train.masks] == [True] * 6 + [False, True]


def test_phantom_is_stored_as_it_is_drawn(stores: tuple[Store, Store]) -> None:
    drawn = draw_phantom(10_001, 288, 352).mask
    assert stores[0].masks[1].float().mean().item() / 255 == pytest.approx(drawn.mean(), rel=0.1)


@pytest.mark.parametrize(("count", "batch"), [(10, 5), (10, 3), (7, 2), (5, 1), (3, 8)])
def test_each_image_comes_once_an_epoch(count: int, batch: int) -> None:
    drawn = [index for step in range(3 * count) for index in batch_indices(count, batch, step, seed=4)]
    assert len(drawn) == 3 * count * batch
    for epoch in range(3 * batch):
        assert sorted(drawn[epoch * count : (epoch + 1) * count]) == list(range(count))


def test_epochs_and_seeds_have_different_orders() -> None:
    orders = {tuple(batch_indices(20, 20, epoch, seed)) for epoch in range(4) for seed in range(4)}
    assert len(orders) == 16


def test_batch_depends_on_its_arguments_alone() -> None:
    first = batch_indices(50, 8, 13, seed=2)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    batch_indices(50, 8, 14, seed=3)
    assert batch_indices(50, 8, 13, seed=2) == first
    assert batch_indices(50, 8, 13, seed=3) != first
