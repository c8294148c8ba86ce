import json

from lsegdiff_core.config import MorphologyConfig, SamplingConfig
from lsegdiff_core.evaluation import Setting
from lsegdiff_core.studies import compute_settings

PLAIN = MorphologyConfig(threshold=0.4, min_confidence=0.3)
SETTINGS = compute_settings(PLAIN)


def test_settings_differ_from_one_another_also_in_the_table() -> None:
    assert len(set(SETTINGS)) == len(SETTINGS)
    assert len({json.dumps(setting.fields) for setting in SETTINGS}) == len(SETTINGS)


def test_settings_hold_the_bundles_threshold() -> None:
    assert {setting.morphology.threshold for setting in SETTINGS} == {0.4}


def test_step_counts_come_plain() -> None:
    for steps in (1, 2, 4, 10, 50):
        assert Setting(SamplingConfig(steps=steps), PLAIN) in SETTINGS


def test_everything_that_costs_time_is_there() -> None:
    samplings = [setting.sampling for setting in SETTINGS]
    assert {sampling.sampler for sampling in samplings} == {"ddim", "heun", "dpmpp_2m", "ddpm"}
    assert {len(sampling.seeds) for sampling in samplings} == {1, 4, 8}
    assert {(sampling.flip, sampling.zoom) for sampling in samplings} == {
        (False, False),
        (True, False),
        (False, True),
        (True, True),
    }
