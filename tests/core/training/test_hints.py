"""Simulated corrections, on discs and boxes of 128 x 128 pixels."""

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lsegdiff_core.models.hint_encoder import BACKGROUND, CURRENT, FOREGROUND, GIVEN
from lsegdiff_core.training import hints
from lsegdiff_core.training.config import HintConfig
from lsegdiff_core.training.hints import corrupt, draw_strokes, outside_box, simulate_hints

SIZE = 128
Shares = Callable[..., None]


def disc(count: int, x: float = 0.4, y: float = 0.55, radius: float = 0.2) -> Tensor:
    """(count, 1, SIZE, SIZE) float32: 1 on a disc, in units of the side."""
    line = (torch.arange(SIZE) + 0.5) / SIZE
    inside = (line[:, None] - y) ** 2 + (line[None] - x) ** 2 < radius**2
    return inside.float().repeat(count, 1, 1, 1)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def touches(strokes: Tensor, region: Tensor) -> Tensor:
    """(B,) bool: whether any stroke has a pixel in ``region``."""
    return (strokes.amax(dim=1, keepdim=True) * region).flatten(1).any(dim=1)


class Model:
    """Segments always the same, ``first`` without hints and ``later`` under them, and notes what it was asked."""

    def __init__(self, first: Tensor, later: Tensor | None = None) -> None:
        self.first, self.later = first > 0.5, (first if later is None else later) > 0.5
        self.calls: list[tuple[Tensor | None, list[int]]] = []

    def __call__(self, hints: Tensor | None, samples: Tensor) -> Tensor:
        self.calls.append((None if hints is None else hints.clone(), samples.tolist()))
        return (self.first if hints is None else self.later)[samples]


@pytest.fixture
def shares(monkeypatch: pytest.MonkeyPatch) -> Shares:
    """Set the shares of special first rounds; what is not named is off, and the current mask is always given."""

    def set_to(box: float = 0.0, outline: float = 0.0, with_current: float = 1.0) -> None:
        for name, value in (("BOX", box), ("OUTLINE", outline), ("WITH_CURRENT", with_current)):
            monkeypatch.setattr(hints, name, value)

    return set_to


def test_strokes_touch_the_error_and_only_pixels_of_their_label(generator: torch.Generator) -> None:
    truth, current = disc(64), disc(64, x=0.55)
    strokes = draw_strokes(truth, current > 0.5, generator)
    assert strokes.shape == (64, 2, SIZE, SIZE)
    assert set(strokes.unique().tolist()) == {0.0, 1.0}
    foreground, background = strokes[:, :1], strokes[:, 1:]
    assert not (foreground * (1 - truth)).any()
    assert not (background * truth).any()
    assert touches(strokes, (truth != current).float()).all()
    # both sides of the shifted disc are wrong, and one stroke is on one of them
    kinds = foreground.flatten(1).any(dim=1), background.flatten(1).any(dim=1)
    assert (kinds[0] != kinds[1]).all()
    assert 10 < kinds[0].sum() < 54


@pytest.mark.parametrize("missing", [True, False])
def test_missing_foreground_is_marked_foreground_and_surplus_background(
    missing: bool, generator: torch.Generator
) -> None:
    lesion, nothing = disc(16), torch.zeros(16, 1, SIZE, SIZE)
    truth, current = (lesion, nothing) if missing else (nothing, lesion)
    strokes = draw_strokes(truth, current > 0.5, generator)
    assert touches(strokes, lesion).all()
    assert not strokes[:, BACKGROUND if missing else FOREGROUND].any()


def test_no_error_no_stroke_even_beside_a_sample_with_one(generator: torch.Generator) -> None:
    truth = torch.cat([disc(2), torch.zeros(2, 1, SIZE, SIZE)])
    current = truth > 0.5
    current[3, :, 40:80, 40:80] = True
    strokes = draw_strokes(truth, current, generator)
    assert strokes.flatten(1).any(dim=1).tolist() == [False, False, False, True]


def test_largest_error_comes_first(generator: torch.Generator) -> None:
    large, small = disc(64, x=0.7, y=0.3), disc(64, x=0.2, y=0.8, radius=0.06)
    strokes = draw_strokes(large + small, torch.zeros(64, 1, SIZE, SIZE) > 0, generator)
    assert touches(strokes, large).all()
    # about in its middle: the stroke comes from there, however it goes on
    assert touches(strokes, disc(64, x=0.7, y=0.3, radius=0.1)).all()


def test_strokes_differ_in_size_and_length(generator: torch.Generator) -> None:
    lesion = disc(64, x=0.5, y=0.5, radius=0.4)
    areas = draw_strokes(lesion, lesion < 0, generator).sum(dim=(1, 2, 3)) / SIZE**2
    assert areas.min() < 0.002
    assert areas.max() > 0.01
    assert areas.max() < 0.06


def test_box_covers_the_lesion_with_a_margin_and_nothing_far_from_it(generator: torch.Generator) -> None:
    truth = torch.zeros(64, 1, SIZE, SIZE)
    truth[:, :, 30:50, 60:100] = 1
    outside = outside_box(truth, generator)
    assert not outside[:, :, 28:52, 58:102].any()
    far = torch.ones(SIZE, SIZE)
    far[14:66, 44:116] = 0  # 0.12 of the side, and a pixel for rounding
    assert outside[:, :, far > 0].all()
    assert len({tuple(sample.flatten().tolist()) for sample in outside}) > 32


def test_box_of_an_empty_mask_marks_nothing(generator: torch.Generator) -> None:
    truth = torch.cat([torch.zeros(1, 1, SIZE, SIZE), disc(1)])
    outside = outside_box(truth, generator)
    assert not outside[0].any()
    assert outside[1].mean() > 0.5


def test_corrupted_mask_overlaps_the_truth_and_differs(generator: torch.Generator) -> None:
    truth = disc(64)
    rough = corrupt(truth, generator)
    assert set(rough.unique().tolist()) == {0.0, 1.0}
    overlap = (rough * truth).sum(dim=(1, 2, 3)) / torch.maximum(rough, truth).sum(dim=(1, 2, 3))
    assert overlap.min() > 0.3
    assert overlap.max() < 0.99
    areas = rough.sum(dim=(1, 2, 3)) / truth.sum(dim=(1, 2, 3))
    assert areas.min() < 0.85
    assert areas.max() > 1.15


def test_corrupted_empty_mask_stays_mostly_empty(generator: torch.Generator) -> None:
    rough = corrupt(torch.zeros(64, 1, SIZE, SIZE), generator)
    assert rough.mean() < 0.005
    assert rough.mean(dim=(1, 2, 3)).max() < 0.05


def test_generator_alone_decides() -> None:
    truth, model = disc(16), Model(disc(16, x=0.6))
    first = simulate_hints(truth, model, HintConfig(), seeded(1))
    torch.manual_seed(99)
    state = torch.get_rng_state()
    assert torch.equal(simulate_hints(truth, model, HintConfig(), seeded(1)), first)
    assert not torch.equal(simulate_hints(truth, model, HintConfig(), seeded(2)), first)
    assert torch.equal(torch.get_rng_state(), state), "the global generator was used"


def test_no_share_no_hints_and_no_segmentation(generator: torch.Generator) -> None:
    model = Model(disc(8, x=0.6))
    planes = simulate_hints(disc(8), model, HintConfig(share=0.0), generator)
    assert planes.shape == (8, 4, SIZE, SIZE)
    assert not planes.any()
    assert model.calls == []


def test_share_of_the_samples_is_hinted_and_no_other_is_segmented(generator: torch.Generator) -> None:
    model = Model(disc(64, x=0.6))
    planes = simulate_hints(disc(64), model, HintConfig(share=0.5), generator)
    hinted = torch.nonzero(planes.flatten(1).any(dim=1)).flatten().tolist()
    assert 20 < len(hinted) < 44
    assert model.calls[0][1] == hinted


@pytest.mark.parametrize("rounds", [1, 3])
def test_rounds_are_one_to_the_configured_number(rounds: int, generator: torch.Generator) -> None:
    model = Model(disc(60, x=0.6))
    simulate_hints(disc(60), model, HintConfig(share=1.0, rounds=rounds), generator)
    samples = [set(samples) for _, samples in model.calls]
    assert samples[0] == set(range(60))
    assert [under is None for under, _ in model.calls] == [True] + [False] * (rounds - 1)
    for index, (before, now) in enumerate(itertools.pairwise(samples), start=1):
        assert now < before
        assert abs(len(now) - 60 * (1 - index / rounds)) < 12


def test_a_later_round_segments_under_the_earlier_strokes_and_adds_to_them(
    shares: Shares, generator: torch.Generator
) -> None:
    shares()
    truth, model = disc(32), Model(disc(32, x=0.6))
    planes = simulate_hints(truth, model, HintConfig(share=1.0, rounds=3), generator)
    (_, _), (second, _), (third, samples) = model.calls
    assert second[:, :CURRENT].flatten(1).any(dim=1).all()
    earlier = second[[model.calls[1][1].index(sample) for sample in samples], :CURRENT]
    assert (third[:, :CURRENT] >= earlier).all()
    assert (third[:, :CURRENT].sum(dim=(1, 2, 3)) > earlier.sum(dim=(1, 2, 3))).any()
    assert (planes[samples, :CURRENT] >= third[:, :CURRENT]).all()


def test_what_a_later_round_gets_right_is_not_corrected_again(shares: Shares, generator: torch.Generator) -> None:
    shares()
    truth, model = disc(32), Model(disc(32, x=0.6), later=disc(32))
    planes = simulate_hints(truth, model, HintConfig(share=1.0, rounds=2), generator)
    under, samples = model.calls[1]
    assert torch.equal(planes[samples, :CURRENT], under[:, :CURRENT])
    assert torch.equal(planes[samples, CURRENT : CURRENT + 1], truth[samples])


def test_strokes_of_all_rounds_have_the_label_of_the_truth(generator: torch.Generator) -> None:
    truth = disc(64)
    planes = simulate_hints(truth, Model(disc(64, x=0.6)), HintConfig(share=1.0), generator)
    assert set(planes.unique().tolist()) == {0.0, 1.0}
    assert not (planes[:, FOREGROUND] * (1 - truth[:, 0])).any()
    assert not (planes[:, BACKGROUND] * truth[:, 0]).any()


def test_current_mask_is_the_models_with_the_strokes_painted_on(shares: Shares, generator: torch.Generator) -> None:
    shares()
    mask = disc(32, x=0.6)
    planes = simulate_hints(disc(32), Model(mask), HintConfig(share=1.0), generator)
    expected = (mask[:, 0] > 0.5) | (planes[:, FOREGROUND] > 0)
    expected &= planes[:, BACKGROUND] == 0
    assert torch.equal(planes[:, CURRENT], expected.float())
    assert (planes[:, CURRENT] != mask[:, 0]).flatten(1).any(dim=1).all()
    assert (planes[:, GIVEN] == 1).all()


def test_some_samples_come_without_the_current_mask(shares: Shares, generator: torch.Generator) -> None:
    shares(with_current=0.5)
    planes = simulate_hints(disc(64), Model(disc(64, x=0.6)), HintConfig(share=1.0), generator)
    given = planes[:, GIVEN].flatten(1)
    assert torch.equal(given.amin(dim=1), given.amax(dim=1))
    assert 16 < given[:, 0].sum() < 48
    assert torch.equal(planes[:, CURRENT].flatten(1).any(dim=1), given[:, 0] > 0)
    assert planes[:, :CURRENT].flatten(1).any(dim=1).all()


def test_a_box_is_part_of_the_background_of_hinted_samples_only(shares: Shares, generator: torch.Generator) -> None:
    shares(box=1.0)
    model = Model(disc(32, x=0.6))
    planes = simulate_hints(disc(32), model, HintConfig(share=0.5, rounds=1), generator)
    boxed = planes[:, BACKGROUND, 0, 0] > 0
    assert torch.nonzero(boxed).flatten().tolist() == model.calls[0][1]
    assert 0 < boxed.sum() < 32
    assert not planes[~boxed].any()
    assert not planes[boxed][:, CURRENT, 0].any(), "the current mask ends at the box"


def test_a_rough_outline_takes_the_place_of_the_models_first_mask(shares: Shares, generator: torch.Generator) -> None:
    shares(outline=1.0)
    truth = disc(32)
    planes = simulate_hints(truth, Model(truth * 0), HintConfig(share=1.0, rounds=1), generator)
    overlap = (planes[:, CURRENT] * truth[:, 0]).sum(dim=(1, 2)) / truth.sum(dim=(1, 2, 3))
    assert overlap.min() > 0.3
    assert not torch.equal(planes[:, CURRENT], truth[:, 0])


def test_a_found_lesion_where_there_is_none_is_marked_background(shares: Shares, generator: torch.Generator) -> None:
    shares(box=1.0)
    planes = simulate_hints(torch.zeros(8, 1, SIZE, SIZE), Model(disc(8)), HintConfig(share=1.0, rounds=1), generator)
    assert not planes[:, FOREGROUND].any()
    assert touches(planes[:, BACKGROUND, None], disc(8)).all()
    assert planes[:, BACKGROUND].mean() < 0.1, "no box without a lesion"
