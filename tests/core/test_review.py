from __future__ import annotations

import numpy as np
import pytest

from lsegdiff_core.config import SamplingConfig
from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.review import BAD, review, summarise_review


def rows(bad: list[bool], **values: list[float]) -> list[dict]:
    neutral = {name: [0.5] * len(bad) for name in ("disagreement", "entropy", "doubt")} | values
    return [
        {"name": str(i), "dice": BAD - 0.1 if is_bad else BAD, **{name: column[i] for name, column in neutral.items()}}
        for i, is_bad in enumerate(bad)
    ]


def test_order_that_puts_bad_masks_first_is_perfect_and_its_opposite_is_the_worst():
    bad = [True] * 3 + [False] * 7
    falling, rising = list(np.linspace(1, 0, 10)), list(np.linspace(0, 1, 10))
    disagreement, entropy, doubt = summarise_review(rows(bad, disagreement=falling, entropy=rising))
    assert (disagreement["auc"], entropy["auc"], doubt["auc"]) == (1.0, 0.0, 0.5)
    assert (disagreement["auc_low"], disagreement["auc_high"]) == (1.0, 1.0)
    assert disagreement["found"] == {"0.1": 1 / 3, "0.2": 2 / 3, "0.3": 1.0}
    assert entropy["found"] == {"0.1": 0.0, "0.2": 0.0, "0.3": 0.0}
    assert (disagreement["bad"], disagreement["n"]) == (3, 10)


def test_area_is_the_share_of_pairs_in_the_right_order():
    generator = np.random.default_rng(3)
    bad = generator.random(40) < 0.3
    values = generator.random(40).round(1)
    pairs = [(a > b) + 0.5 * (a == b) for a in values[bad] for b in values[~bad]]
    assert summarise_review(rows(list(bad), doubt=list(values)))[2]["auc"] == pytest.approx(np.mean(pairs))


def test_interval_of_a_useless_score_holds_one_half():
    generator = np.random.default_rng(0)
    bad = generator.random(200) < 0.3
    row = summarise_review(rows(list(bad), entropy=list(generator.random(200))))[1]
    assert row["auc_low"] < 0.5 < row["auc_high"]
    assert 0.1 < row["auc_high"] - row["auc_low"] < 0.3


@pytest.mark.parametrize("bad", [True, False])
def test_masks_that_are_all_alike_have_no_order(bad: bool):
    with pytest.raises(LSegDiffError, match=r"of 5 masks are bad .* take other images"):
        summarise_review(rows([bad] * 5))


def test_one_seed_is_refused():
    with pytest.raises(LSegDiffError, match="give 2 or more"):
        next(review(None, [], SamplingConfig()))
