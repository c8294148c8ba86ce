"""What compute at inference buys: the settings that are compared, and the table of it."""

from __future__ import annotations

import dataclasses

from lsegdiff_core.config import ONE_A_VIEW, MorphologyConfig, SamplingConfig
from lsegdiff_core.evaluation import Setting

STEPS = (1, 2, 4, 10, 50)
SAMPLERS_AT = (4, 10)
EIGHT = tuple(range(8))


def compute_settings(plain: MorphologyConfig) -> list[Setting]:
    """Return the settings that differ from a plain run of few steps in one respect each.

    Step counts; samplers; eight seeds; four and eight that look at mirrored views; the zoomed second pass; both;
    no morphology, and more of it.

    Parameters
    ----------
    plain
        The refinement that the bundle suggests.
    """
    one = SamplingConfig()
    samplings = [dataclasses.replace(one, steps=steps) for steps in STEPS]
    samplings += [
        dataclasses.replace(one, steps=steps, sampler=sampler)
        for steps in SAMPLERS_AT
        for sampler in ("heun", "dpmpp_2m", "ddpm")
    ]
    samplings += [dataclasses.replace(one, steps=steps, seeds=EIGHT) for steps in STEPS[:-1]]
    for seeds, flip, zoom in (
        (ONE_A_VIEW, True, False),
        (EIGHT, True, False),
        ((0,), False, True),
        (ONE_A_VIEW, True, True),
    ):
        samplings += [dataclasses.replace(one, steps=steps, seeds=seeds, flip=flip, zoom=zoom) for steps in (1, 4)]
    settings = [Setting(sampling, plain) for sampling in samplings]
    bare = dataclasses.replace(plain, fill_holes=False, min_confidence=0.0)
    smooth = dataclasses.replace(plain, smooth=2.0, min_area=50)
    return [*settings, Setting(one, bare), Setting(one, smooth)]
