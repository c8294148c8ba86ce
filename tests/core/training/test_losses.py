import math

import pytest
import torch

from lsegdiff_core.training.losses import batch_dice, box_blur, kl_divergence, mask_loss, wide_blur


def test_undecided_logits_on_half_a_mask() -> None:
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :2] = 1
    # BCE = ln 2; soft Dice = (2 * 4 + 1) / (8 + 8 + 1)
    assert mask_loss(torch.zeros(1, 1, 4, 4), mask).item() == pytest.approx(math.log(2) + 1 - 9 / 17, abs=1e-6)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_right_and_sure_costs_nothing(value: float) -> None:
    mask = torch.full((2, 1, 4, 4), value)
    assert mask_loss((2 * mask - 1) * 100, mask).item() == pytest.approx(0.0, abs=1e-6)


def test_wrong_and_sure_costs_the_logit_and_the_whole_dice() -> None:
    # BCE = 50; soft Dice = 1 / (16 + 1) for the smoothing alone
    assert mask_loss(torch.full((1, 1, 4, 4), -50.0), torch.ones(1, 1, 4, 4)).item() == pytest.approx(51 - 1 / 17)


def test_dice_is_taken_per_sample_and_not_over_the_batch() -> None:
    masks = torch.stack([torch.ones(1, 4, 4), torch.zeros(1, 4, 4)])
    logits = torch.full((2, 1, 4, 4), 100.0)
    # BCE = (0 + 100) / 2; Dice losses 0 and 1 - 1 / 17
    assert mask_loss(logits, masks).item() == pytest.approx(50 + (1 - 1 / 17) / 2, rel=1e-6)


def test_half_precision_logits_are_added_up_in_single() -> None:
    logits = torch.full((1, 1, 64, 64), 0.37, dtype=torch.bfloat16)
    mask = torch.ones(1, 1, 64, 64)
    assert mask_loss(logits, mask).dtype == torch.float32
    torch.testing.assert_close(mask_loss(logits, mask), mask_loss(logits.float(), mask))


def half(size: int = 64) -> torch.Tensor:
    mask = torch.zeros(1, 1, size, size)
    mask[..., : size // 2] = 1
    return mask


def test_boundary_weights_pixels_by_how_much_the_mask_changes_around_them() -> None:
    # the window is 5 of 64 pixels: the two columns at either side of the edge differ from their mean by 2/5 and 1/5
    mask = half()
    weight = torch.ones(64)
    weight[30:34] += 5.0 * torch.tensor([0.2, 0.4, 0.4, 0.2])
    logits = torch.randn(64).expand(1, 1, 64, 64)
    probability, truth = logits[0, 0, 0].sigmoid(), mask[0, 0, 0]
    entropy = -(weight * torch.where(truth > 0, probability, 1 - probability).log()).sum() / weight.sum()
    overlap, total = (weight * probability * truth).sum() * 64, (weight * (probability + truth)).sum() * 64
    expected = entropy + 1 - (2 * overlap + 1) / (total + 1)
    torch.testing.assert_close(mask_loss(logits, mask, boundary=5.0), expected)


def test_a_mistake_at_the_boundary_costs_more_than_one_far_from_it() -> None:
    mask = half()
    near, far = ((2 * mask - 1) * 4 for _ in range(2))
    near[..., 32] *= -1
    far[..., 60] *= -1
    torch.testing.assert_close(mask_loss(near, mask), mask_loss(far, mask))
    assert mask_loss(near, mask, boundary=5.0) > 1.5 * mask_loss(far, mask, boundary=5.0)


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("size", [8, 64, 256])
def test_a_mask_without_boundary_is_weighted_evenly_up_to_its_border(value: float, size: int) -> None:
    logits, mask = torch.randn(1, 1, size, size), torch.full((1, 1, size, size), value)
    torch.testing.assert_close(mask_loss(logits, mask, boundary=5.0), mask_loss(logits, mask))


def test_box_blur_is_the_mean_of_the_window_inside_the_map() -> None:
    maps = torch.rand(2, 3, 6, 9)
    blurred = box_blur(maps, 3)
    torch.testing.assert_close(blurred[1, 2, 3, 4], maps[1, 2, 2:5, 3:6].mean())
    torch.testing.assert_close(blurred[0, 1, 0, 8], maps[0, 1, :2, 7:].mean())


@pytest.mark.parametrize(("size", "kernel"), [(256, 23), (352, 31)])
def test_wide_blur_is_about_a_box_blur(size: int, kernel: int) -> None:
    line = (torch.arange(size) + 0.5) / size
    inside = (line[:, None] - 0.3) ** 2 + (line[None] - 0.6) ** 2 < 0.2**2
    mask = inside.float()[None, None]
    difference = wide_blur(mask, kernel) - box_blur(mask, kernel)
    assert difference.abs().max() < 0.08
    assert difference.abs().mean() < 0.005
    ones = torch.ones(1, 1, size, size)
    torch.testing.assert_close(wide_blur(ones, kernel), ones)


@pytest.mark.parametrize(
    ("mean", "variance", "expected"),
    [
        (0.0, 1.0, 0.0),
        (1.0, 1.0, 0.5),
        (-2.0, 1.0, 2.0),
        (0.0, 4.0, 0.5 * (4 - 1 - math.log(4))),
        (0.0, 0.25, 0.318147),
    ],
)
def test_kl_to_the_unit_normal(mean: float, variance: float, expected: float) -> None:
    shape = (2, 4, 3, 3)
    value = kl_divergence(torch.full(shape, mean), torch.full(shape, math.log(variance)))
    assert value.item() == pytest.approx(expected, abs=1e-5)


def test_kl_agrees_with_torch() -> None:
    mean, log_variance = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3)
    theirs = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, (0.5 * log_variance).exp()), torch.distributions.Normal(0.0, 1.0)
    )
    torch.testing.assert_close(kl_divergence(mean, log_variance), theirs.mean())


def test_batch_dice_of_known_masks() -> None:
    predicted, truth = torch.zeros(2, 5, 1, 2, 4, dtype=torch.bool)
    truth[0], predicted[0] = True, True
    truth[1, 0, 0] = True  # 4 pixels, of which 2 are found, and 1 too many
    predicted[1, 0, 0, :2] = True
    predicted[1, 0, 1, 3] = True
    truth[2] = True
    predicted[3] = True
    assert batch_dice(predicted, truth).tolist() == pytest.approx([1.0, 4 / 7, 0.0, 0.0, 1.0])
