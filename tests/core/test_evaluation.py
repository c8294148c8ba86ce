from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lsegdiff_core.config import MorphologyConfig, SamplingConfig
from lsegdiff_core.data.readers import read_pairs
from lsegdiff_core.evaluation import SETTING_FIELDS, Setting, compare_samples, describe_run, evaluate, summarise
from lsegdiff_core.metrics import dice, iou
from lsegdiff_core.predictor import Predictor

PLAIN = MorphologyConfig()
SETTINGS = [
    Setting(SamplingConfig(steps=1), PLAIN),
    Setting(SamplingConfig(steps=2), PLAIN),
    Setting(SamplingConfig(steps=1, sampler="ddpm"), PLAIN),
    Setting(SamplingConfig(steps=1, seeds=(0, 1)), PLAIN),
    Setting(SamplingConfig(steps=1, flip=True), PLAIN),
    Setting(SamplingConfig(steps=1, zoom=True), PLAIN),
    Setting(SamplingConfig(steps=1), MorphologyConfig(threshold=0.6)),
    Setting(SamplingConfig(steps=1), MorphologyConfig(fill_holes=False)),
    Setting(SamplingConfig(steps=1), MorphologyConfig(min_area=40)),
    Setting(SamplingConfig(steps=1), MorphologyConfig(smooth=2.0)),
    Setting(SamplingConfig(steps=1), MorphologyConfig(min_confidence=0.3)),
]


def row(setting: Setting = SETTINGS[0], **changes: Any) -> dict[str, Any]:
    """An image's row as `evaluate` yields it."""
    row = {"name": "a", "lesion": True, "found": True, "dice": 0.5, "iou": 0.4, "hd95": 3.0, "seconds": 0.1}
    return {**setting.fields, **row, "reconstruction": 0.9, **changes}


def test_every_setting_has_its_own_line_in_their_order(predictor: Predictor, pairs: Path) -> None:
    rows = list(evaluate(predictor, read_pairs(pairs)[:2], SETTINGS))
    assert len(rows) == 2 * len(SETTINGS)
    summary = summarise(rows)
    assert [{name: line[name] for name in SETTING_FIELDS} for line in summary] == [it.fields for it in SETTINGS]
    for index, line in enumerate(summary):
        mine = rows[index :: len(SETTINGS)]
        assert line["n"] == 2
        assert line["dice"] == pytest.approx(np.mean([row["dice"] for row in mine]))
        assert line["dice_low"] <= line["dice"] <= line["dice_high"]
        assert ("single" in line) == (line["seeds"] > 1)
    json.dumps([rows, summary], allow_nan=False)


@pytest.mark.parametrize("change", [{"opening": 2.0}, {"closing": 2.0}, {"keep_largest": True}])
def test_every_part_of_the_morphology_tells_settings_apart(change: dict[str, Any]) -> None:
    other = Setting(SamplingConfig(steps=1), MorphologyConfig(**change))
    assert len(summarise([row(), row(other)])) == 2


def test_a_row_holds_the_mask_of_its_setting(predictor: Predictor, pairs: Path) -> None:
    settings = [SETTINGS[1], Setting(SamplingConfig(steps=1, seeds=(0, 1), zoom=True), MorphologyConfig(threshold=0.6))]
    pair = read_pairs(pairs)[1]
    image, truth = pair.read()
    for found, setting in zip(evaluate(predictor, [pair], settings), settings, strict=True):
        predictor.set_image(image)
        mask = predictor.predict(setting.sampling).refined(setting.morphology).mask
        assert (found["name"], found["lesion"], found["found"]) == ("f1", True, bool(mask.any()))
        assert (found["dice"], found["iou"]) == (dice(mask, truth), iou(mask, truth))


def test_an_empty_frame_with_a_mask_is_a_false_alarm(predictor: Predictor, pairs: Path, write_image) -> None:
    write_image(pairs / "masks" / "f1.png", np.zeros((60, 80), np.uint8))
    settings = [SETTINGS[0], Setting(SamplingConfig(steps=1), MorphologyConfig(min_area=60 * 80 + 1))]
    rows = list(evaluate(predictor, read_pairs(pairs), settings))
    assert [row["lesion"] for row in rows[::2]] == [True, False, True]
    alarmed, silent = summarise(rows)
    assert (alarmed["empty"], alarmed["false_alarms"]) == (1, 1.0)
    assert (silent["empty"], silent["false_alarms"]) == (1, 0.0)
    assert silent["dice"] == pytest.approx(1 / 3), "two empty masks agree"


def test_summary_by_hand() -> None:
    (line,) = summarise(
        [
            row(dice=0.8, iou=0.6, hd95=2.0, seconds=0.3),
            row(dice=0.4, iou=0.2, hd95=6.0, seconds=0.1, reconstruction=0.7),
            row(dice=0.0, iou=0.0, hd95=10.0, seconds=0.2, lesion=False),
            row(dice=1.0, iou=1.0, hd95=0.0, seconds=0.2, lesion=False, found=False),
        ]
    )
    means = {"dice": 0.55, "dice_lesion": 0.6, "iou": 0.45, "hd95": 4.5, "false_alarms": 0.5, "seconds_per_image": 0.2}
    assert {name: line[name] for name in means} == pytest.approx(means)
    assert (line["n"], line["empty"]) == (4, 2)
    assert (line["reconstruction"], line["reconstruction_worst"]) == pytest.approx((0.85, 0.7))


def test_what_there_is_no_image_for_is_none() -> None:
    (lesions,) = summarise([row()])
    assert (lesions["empty"], lesions["false_alarms"], lesions["dice_lesion"]) == (0, None, 0.5)
    (frames,) = summarise([row(lesion=False)])
    assert (frames["empty"], frames["false_alarms"], frames["dice_lesion"]) == (1, 1.0, None)


def test_samples_by_hand() -> None:
    truth, right, left, whole = (np.zeros((2, 4), np.bool_) for _ in range(4))
    truth[:, 1:3] = right[:, 2:] = left[:, :2] = whole[:] = True
    # Dice 1/2, 1/2 and 2/3; IoU of the pairs 0, 1/2 and 1/2
    assert compare_samples(np.stack([right, left, whole]), truth) == pytest.approx(
        {"single": 5 / 9, "best": 2 / 3, "agreement": 1 / 3}
    )


def test_the_control_without_diffusion_has_one_result_for_all_steps(direct: Predictor, pairs: Path) -> None:
    settings = [Setting(SamplingConfig(steps=steps), PLAIN) for steps in (1, 4)]
    rows = list(evaluate(direct, read_pairs(pairs), settings))
    assert [row["steps"] for row in rows] == [1, 1, 1], "settings that come to the same are measured once"
    assert [row["reconstruction"] for row in rows] == [None] * 3


def test_the_control_without_diffusion_has_no_samples_to_compare(direct: Predictor, pairs: Path) -> None:
    (row,) = evaluate(direct, read_pairs(pairs)[:1], [Setting(SamplingConfig(seeds=(0, 1)), PLAIN)])
    json.dumps(row, allow_nan=False)


def test_a_run_is_described_for_json(predictor: Predictor, direct: Predictor) -> None:
    run = describe_run(predictor)
    assert json.loads(json.dumps(run, allow_nan=False)) == run
    assert (run["method"], describe_run(direct)["method"]) == ("diffusion", "direct")
    assert run["bundle"]["name"] == "tiny"
    assert (run["device"], run["threads"] > 0) == ("cpu", True)
    assert isinstance(run["processor"], str)


def test_commit_is_left_open_without_git(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", missing)
    assert describe_run(predictor)["commit"] is None
