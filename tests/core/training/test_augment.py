import dataclasses

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from lsegdiff_core.training.augment import augment, plain
from lsegdiff_core.training.config import AugmentConfig

GEOMETRIC = AugmentConfig(brightness=0, contrast=0, saturation=0, hue=0, blur=0)
STILL = AugmentConfig(scale=0, aspect=0, shift=0, brightness=0, contrast=0, saturation=0, hue=0, blur=0)
COLOUR = dataclasses.replace(AugmentConfig(), scale=0, aspect=0, shift=0, blur=0)


def disc(count: int, size: int = 80, radius: float = 0.3, centre: tuple[float, float] = (0.1, -0.15)) -> Tensor:
    """(count, 1, size, size) uint8: 255 on a disc, in units of half the side."""
    axis = (torch.arange(size) + 0.5) / size * 2 - 1
    inside = (axis[:, None] - centre[0]) ** 2 + (axis[None] - centre[1]) ** 2 < radius**2
    return (inside * 255).to(torch.uint8).repeat(count, 1, 1, 1)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_image_and_mask_move_together() -> None:
    masks = disc(32)
    image, mask = augment(masks.repeat(1, 3, 1, 1), masks, 64, GEOMETRIC, seeded())
    white, truth = image[:, :1] > 0, mask > 0.5
    overlap = (white & truth).sum(dim=(1, 2, 3)) / (white | truth).sum(dim=(1, 2, 3))
    assert overlap.min() > 0.97
    assert (truth.sum(dim=(1, 2, 3)) > 50).all()


def test_samples_move_independently_and_differently() -> None:
    masks = disc(32)
    _, mask = augment(masks.repeat(1, 3, 1, 1), masks, 64, GEOMETRIC, seeded())
    assert len({tuple(sample.flatten().tolist()) for sample in mask}) == 32


def test_shapes_and_ranges() -> None:
    masks = disc(4)
    noise = torch.randint(0, 256, (4, 3, 80, 80), dtype=torch.uint8, generator=seeded(5))
    image, mask = augment(noise, masks, 64, AugmentConfig(), seeded())
    assert image.shape == (4, 3, 64, 64)
    assert mask.shape == (4, 1, 64, 64)
    assert image.dtype == mask.dtype == torch.float32
    assert image.min() >= -1
    assert image.max() <= 1
    assert set(mask.unique().tolist()) == {0.0, 1.0}


def test_generator_alone_decides() -> None:
    masks = disc(3)
    images = torch.randint(0, 256, (3, 3, 80, 80), dtype=torch.uint8, generator=seeded(5))
    config = AugmentConfig(specular=0.5, paste=0.5)
    first = augment(images, masks, 64, config, seeded(1))
    torch.manual_seed(99)
    state = torch.get_rng_state()
    second = augment(images, masks, 64, config, seeded(1))
    other = augment(images, masks, 64, config, seeded(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[0], other[0])
    assert torch.equal(torch.get_rng_state(), state), "the global generator was used"


def test_stored_images_are_not_changed() -> None:
    masks = disc(2)
    images = masks.repeat(1, 3, 1, 1)
    before = images.clone()
    augment(images, masks, 64, AugmentConfig(), seeded())
    assert torch.equal(images, before)
    assert torch.equal(masks, before[:, :1])


def test_without_any_range_only_turns_and_mirrors_are_left() -> None:
    masks = disc(64, size=64, centre=(0.0, 0.0))
    _, mask = augment(masks.repeat(1, 3, 1, 1), masks, 64, STILL, seeded())
    areas = mask.sum(dim=(1, 2, 3)) / (masks[0] > 0).sum()
    assert (areas - 1).abs().max() < 0.03
    rows, columns = torch.nonzero(mask[:, 0], as_tuple=True)[1:]
    assert abs(rows.float().mean() - 31.5) < 0.1
    assert abs(columns.float().mean() - 31.5) < 0.1


def test_half_of_the_samples_turn_by_quarters() -> None:
    square = torch.zeros(200, 1, 64, 64, dtype=torch.uint8)
    square[..., 8:56, 8:56] = 255
    _, mask = augment(square.repeat(1, 3, 1, 1), square, 64, STILL, seeded())
    upright = (mask > 0.5).eq(square > 0).flatten(1).all(dim=1).float().mean()
    assert 0.38 < upright < 0.62


def test_size_stays_within_the_scale_and_aspect_leaves_the_area() -> None:
    masks = disc(128, radius=0.35, centre=(0.0, 0.0))
    _, mask = augment(masks.repeat(1, 3, 1, 1), masks, 80, dataclasses.replace(GEOMETRIC, shift=0), seeded())
    areas = mask.sum(dim=(1, 2, 3)) / (masks[0] > 0).sum()
    assert areas.max() < 1.35**2 * 1.05
    assert areas.min() > 1.35**-2 * 0.95
    assert areas.max() > 1.3
    assert areas.min() < 0.75
    # the aspect alone: discs become ellipses of the same area
    _, mask = augment(masks.repeat(1, 3, 1, 1), masks, 80, dataclasses.replace(STILL, aspect=0.2), seeded())
    areas = mask.sum(dim=(1, 2, 3)) / (masks[0] > 0).sum()
    assert (areas - 1).abs().max() < 0.05
    heights = mask[:, 0].amax(dim=2).sum(dim=1)
    assert heights.max() > heights.min() + 2


def test_shift_stays_within_its_share_of_the_side() -> None:
    masks = disc(128, radius=0.2, centre=(0.0, 0.0))
    _, mask = augment(masks.repeat(1, 3, 1, 1), masks, 80, dataclasses.replace(STILL, shift=0.1), seeded())
    weights = mask[:, 0] / mask.sum(dim=(1, 2, 3))[:, None, None]
    axis = torch.arange(80) - 39.5
    moved = torch.stack([(weights.sum(dim=2) * axis).sum(dim=1), (weights.sum(dim=1) * axis).sum(dim=1)])
    # the shift is drawn along the axes of the source, which are turned afterwards
    assert moved.norm(dim=0).max() < 8 * 2**0.5 + 0.5
    assert moved.abs().max() > 6


def test_colour_leaves_mask_and_black_border_alone() -> None:
    masks = disc(16)
    images = masks.repeat(1, 3, 1, 1) // 2
    still, truth = augment(images, masks, 64, STILL, seeded(3))
    image, mask = augment(images, masks, 64, COLOUR, seeded(3))
    assert torch.equal(mask, truth)
    black = still.amax(dim=1, keepdim=True) <= -0.98
    assert black.any()
    assert (image.masked_select(black.expand_as(image)) == -1).all()
    changed = (image - still).abs().amax(dim=(1, 2, 3))
    assert (changed > 0.003).all()


def test_no_colour_range_leaves_colours_as_they_are() -> None:
    colour = torch.tensor([200, 90, 60], dtype=torch.uint8)[None, :, None, None].expand(4, 3, 64, 64).contiguous()
    image, _ = augment(colour, torch.zeros(4, 1, 64, 64, dtype=torch.uint8), 64, STILL, seeded())
    expected = (torch.tensor([200, 90, 60]) / 127.5 - 1)[None].expand(4, 3)
    torch.testing.assert_close(image[:, :, 32, 32], expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize("name", ["hue", "saturation"])
def test_hue_and_saturation_keep_the_luminance(name: str) -> None:
    colour = torch.tensor([150, 120, 110], dtype=torch.uint8)[None, :, None, None].expand(16, 3, 64, 64).contiguous()
    config = dataclasses.replace(STILL, **{name: 0.3})
    image, _ = augment(colour, torch.zeros(16, 1, 64, 64, dtype=torch.uint8), 64, config, seeded())
    pixel = (image[:, :, 32, 32] + 1) / 2
    weights = torch.tensor([0.299, 0.587, 0.114])
    expected = (torch.tensor([150.0, 120.0, 110.0]) / 255) @ weights
    torch.testing.assert_close(pixel @ weights, expected.expand(16), rtol=0, atol=2e-3)
    assert pixel.std(dim=0).max() > 0.01


def spotted(share: float, images: Tensor) -> tuple[Tensor, Tensor]:
    masks = disc(len(images), radius=0.5)
    return augment(images, masks, 64, dataclasses.replace(STILL, specular=share), seeded(3))


def test_highlights_brighten_some_of_the_image_and_leave_border_and_mask_black() -> None:
    images = disc(32, radius=0.8).repeat(1, 3, 1, 1) // 2
    (still, truth), (image, mask) = spotted(0.0, images), spotted(1.0, images)
    assert torch.equal(mask, truth)
    black = (still == -1).all(dim=1, keepdim=True).expand_as(image)
    assert black.any()
    assert (image[black] == -1).all()
    assert (image >= still).all()
    assert image.max() <= 1
    bright = (image > still + 0.1).any(dim=1).float().mean(dim=(1, 2))
    assert bright.min() > 0
    assert bright.max() < 0.1


def test_share_of_the_samples_has_highlights() -> None:
    images = disc(64, radius=0.8).repeat(1, 3, 1, 1) // 2
    (still, _), (image, _) = spotted(0.0, images), spotted(0.3, images)
    assert 8 < (image != still).flatten(1).any(dim=1).sum() < 32


def lesions(*radii: float, background: float = 0.9) -> tuple[Tensor, Tensor]:
    """Grey discs on black, each with a lesion of its own brightness to the right of the middle."""
    count = len(radii)
    masks = torch.cat([disc(1, 64, radius, (0.0, 0.4)) for radius in radii])
    images = disc(count, 64, background, (0.0, 0.0)) // 255 * 60
    for index in range(count):
        images[index][masks[index] > 0] = 150 + 40 * index
    return images.repeat(1, 3, 1, 1), masks


def pasted(images: Tensor, masks: Tensor, seed: int = 3) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return images and masks without and with lesions pasted."""
    config = dataclasses.replace(STILL, paste=1.0)
    return augment(images, masks, 64, STILL, seeded(seed)), augment(images, masks, 64, config, seeded(seed))


def test_pasted_mask_is_the_union_with_that_of_the_sample_before() -> None:
    (still, before), (image, mask) = pasted(*lesions(0.2, 0.2, 0.2))
    other = before.roll(1, dims=0)
    assert torch.equal(mask, torch.maximum(before, other))
    assert (mask > before).any()
    # the lesion comes with its look, which fades into the image's own over two pixels
    core = functional.avg_pool2d(other, 5, 1, 2) == 1
    assert core.flatten(1).any(dim=1).all()
    colours = core.expand_as(image)
    torch.testing.assert_close(image[colours], still.roll(1, dims=0)[colours])
    away = (functional.max_pool2d(other, 7, 1, 3) == 0).expand_as(image)
    assert torch.equal(image[away], still[away])


def test_nothing_is_pasted_on_the_black_border() -> None:
    (still, before), (image, mask) = pasted(*lesions(0.3, 0.3, 0.3, background=0.5))
    black = (still == -1).all(dim=1, keepdim=True)
    other = before.roll(1, dims=0) > 0
    assert (black & other).any()
    assert (image[black.expand_as(image)] == -1).all()
    assert not mask[black].any()
    assert (mask > before).any()


def test_large_lesions_are_not_copied() -> None:
    images, masks = lesions(0.55, 0.2, 0.2)  # 24 % of the image, and 3 %
    (still, before), (image, mask) = pasted(images, masks)
    assert torch.equal(image[1], still[1])
    assert torch.equal(mask[1], before[1])
    assert not torch.equal(mask[2], before[2])


def test_share_of_the_samples_gets_a_lesion() -> None:
    images, masks = lesions(*[0.2] * 2)
    images, masks = images.repeat(32, 1, 1, 1), masks.repeat(32, 1, 1, 1)
    config = dataclasses.replace(STILL, paste=0.3)
    still, _ = augment(images, masks, 64, STILL, seeded(3))
    image, _ = augment(images, masks, 64, config, seeded(3))
    assert 8 < (image != still).flatten(1).any(dim=1).sum() < 32


def test_plain_is_a_resize_without_randomness() -> None:
    masks = disc(2)
    images = masks.repeat(1, 3, 1, 1)
    image, mask = plain(images, masks, 80)
    assert torch.equal(image, images.float() / 127.5 - 1)
    assert torch.equal(mask, (masks > 127).float())
    image, mask = plain(images, masks, 64)
    assert image.shape == (2, 3, 64, 64)
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    assert mask.mean().item() == pytest.approx((masks > 0).float().mean().item(), rel=0.02)


def erased(images: Tensor, masks: Tensor, share: float = 1.0) -> tuple[Tensor, Tensor]:
    return augment(images, masks, 80, dataclasses.replace(STILL, erase=share), seeded(0))


def test_erased_lesion_is_covered_by_tissue_of_the_same_colour() -> None:
    masks = disc(6, radius=0.2, centre=(0.5, 0.4))
    # dark on the left, bright on the right: the tissue of the other side must take the light of this one
    ramp = torch.linspace(90, 150, 80)[None, None, None].expand(6, 3, 80, 80)
    images = torch.where(masks > 0, 250.0, ramp).to(torch.uint8)
    (still, before), (image, mask) = erased(images, masks, 0.0), erased(images, masks)
    assert before.flatten(1).any(dim=1).all()
    assert not mask.any()
    assert still.amax() > 0.9
    assert image.amax() < 0.3, "the lesion shines through"
    far = functional.max_pool2d(before, 25, 1, 12) == 0
    assert torch.equal(image[far.expand_as(image)], still[far.expand_as(still)])


def test_lesion_that_no_tissue_can_cover_stays() -> None:
    for masks in (disc(4, radius=0.9), disc(4, radius=0.3)):  # too large, and in the middle of every mirror image
        images = torch.where(masks.expand(-1, 3, -1, -1) > 0, 200, 100).to(torch.uint8)
        (still, before), (image, mask) = erased(images, masks, 0.0), erased(images, masks)
        assert torch.equal(image, still)
        assert torch.equal(mask, before)


def test_black_border_covers_no_lesion() -> None:
    masks = disc(4, radius=0.15, centre=(0.6, 0.6))
    images = torch.where(masks.expand(-1, 3, -1, -1) > 0, 200, 100).to(torch.uint8)
    images[:, :, :35] = 0  # of the places that mirror images could take tissue from, these are not in the picture
    images[:, :, :, :35] = 0
    (_, before), (_, mask) = erased(images, masks, 0.0), erased(images, masks)
    assert torch.equal(mask, before)


def test_share_of_the_lesions_is_erased() -> None:
    masks = disc(400, radius=0.15, centre=(0.5, 0.5))
    images = torch.where(masks.expand(-1, 3, -1, -1) > 0, 200, 100).to(torch.uint8)
    _, mask = erased(images, masks, 0.3)
    assert 0.2 < (mask.flatten(1).amax(dim=1) == 0).float().mean() < 0.4
