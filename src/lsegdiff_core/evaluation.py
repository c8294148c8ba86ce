"""Measuring a bundle on a folder of pairs."""

from __future__ import annotations

import platform
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import lsegdiff_core
from lsegdiff_core.config import MorphologyConfig, SamplingConfig, to_dict
from lsegdiff_core.data.geometry import Geometry
from lsegdiff_core.data.readers import Pair
from lsegdiff_core.metrics import bootstrap_interval, dice, hd95, iou, mean_pairwise_iou
from lsegdiff_core.predictor import Predictor

Row = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """One way to make a mask: how it is sampled and how the probability is refined."""

    sampling: SamplingConfig
    morphology: MorphologyConfig

    @property
    def fields(self) -> Row:
        """What tells this setting from others in a table."""
        sampling = self.sampling
        return {
            "steps": sampling.steps,
            "sampler": sampling.sampler,
            "seeds": len(sampling.seeds),
            "flip": sampling.flip,
            "zoom": sampling.zoom,
            **to_dict(self.morphology),
        }


SETTING_FIELDS = tuple(Setting(SamplingConfig(), MorphologyConfig()).fields)


def evaluate(predictor: Predictor, pairs: Sequence[Pair], settings: Sequence[Setting]) -> Iterator[Row]:
    """Segment every image under every setting and compare with its mask, at the image's size.

    Parameters
    ----------
    predictor
        The model.
    pairs
        Images and masks.
    settings
        What to compare.

    Yields
    ------
    dict
        One row an image and setting: name, `Setting.fields`, lesion and found (whether the true mask and the mask
        hold a pixel), dice, iou, hd95 (pixels), seconds (geometry, encoder, sampling, decoder, geometry and
        morphology; without reading the file) and reconstruction, the Dice of the true mask after a round trip
        through the mask VAE (None without diffusion). With several seeds also those of `compare_samples`. Settings
        that come to the same are measured once.

    Raises
    ------
    LSegDiffError
        If a file cannot be read or sizes differ.
    """
    # the decoder of the control was trained away from the encoder
    diffusion = predictor.manifest.model.method == "diffusion"
    distinct = list(dict.fromkeys(replace(given, sampling=predictor.effective(given.sampling)) for given in settings))
    for pair in pairs:
        image, truth = pair.read()
        rebuilt = dice(reconstruct(predictor, image, truth), truth) if diffusion else None
        sampled: SamplingConfig | None = None
        for setting in distinct:
            began = time.perf_counter()
            if setting.sampling != sampled:  # settings in a row that differ in their refinement share the samples
                predictor.set_image(image, pair.image.name)
                prediction = predictor.predict(setting.sampling)
                sampled, sampling_seconds = setting.sampling, time.perf_counter() - began
                began = time.perf_counter()
            prediction = prediction.refined(setting.morphology)
            mask = prediction.mask
            seconds = sampling_seconds + time.perf_counter() - began
            yield {
                "name": pair.name,
                **setting.fields,
                "lesion": bool(truth.any()),
                "found": bool(mask.any()),
                "dice": dice(mask, truth),
                "iou": iou(mask, truth),
                "hd95": hd95(mask, truth),
                "seconds": seconds,
                "reconstruction": rebuilt,
                **(compare_samples(prediction.samples, truth) if len(prediction.squares) > 1 else {}),
            }


def compare_samples(samples: NDArray[np.bool_], truth: NDArray[np.bool_]) -> Row:
    """Compare the samples (K, H, W) of several seeds with the truth (H, W) and with one another.

    Returns
    -------
    dict
        single (mean Dice of a sample), best (Dice of the best one) and agreement (mean IoU of all pairs of samples).
    """
    scores = [dice(sample, truth) for sample in samples]
    return {"single": float(np.mean(scores)), "best": max(scores), "agreement": mean_pairwise_iou(samples)}


def reconstruct(predictor: Predictor, image: NDArray[np.uint8], truth: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return ``truth`` (H, W) after the way through the square and the mask VAE and back: the ceiling of the model."""
    geometry = Geometry.of(image)
    square = geometry.mask_to_square(truth, predictor.manifest.model.vae.size) >= 0.5
    z = predictor.encode_mask(torch.from_numpy(square)[None, None].float())
    return geometry.from_square(predictor.decode(z)[0]) >= 0.5


def summarise(rows: Sequence[Row]) -> list[Row]:
    """Return one row per setting: means over images, 95 % bootstrap intervals of Dice and IoU, and false alarms.

    ``dice_lesion`` is the mean over the images with a lesion, ``false_alarms`` the share of those without one that
    got a mask; None where there is no such image.
    """
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in SETTING_FIELDS), []).append(row)
    return [{**dict(zip(SETTING_FIELDS, key, strict=True)), **_means(mine)} for key, mine in groups.items()]


def _means(rows: Sequence[Row]) -> Row:
    def mean(values: Sequence[float]) -> float | None:
        return float(np.mean(values)) if values else None

    rebuilt = [row["reconstruction"] for row in rows if row["reconstruction"] is not None]

    dice_low, dice_high = bootstrap_interval([row["dice"] for row in rows])
    iou_low, iou_high = bootstrap_interval([row["iou"] for row in rows])
    empty = [row for row in rows if not row["lesion"]]
    return {
        "n": len(rows),
        "dice": mean([row["dice"] for row in rows]),
        "dice_low": dice_low,
        "dice_high": dice_high,
        "dice_lesion": mean([row["dice"] for row in rows if row["lesion"]]),
        "iou": mean([row["iou"] for row in rows]),
        "iou_low": iou_low,
        "iou_high": iou_high,
        "hd95": mean([row["hd95"] for row in rows]),
        "empty": len(empty),
        "false_alarms": mean([row["found"] for row in empty]),
        "seconds_per_image": mean([row["seconds"] for row in rows]),
        "reconstruction": mean(rebuilt),
        "reconstruction_worst": min(rebuilt, default=None),
        **{name: mean([row[name] for row in rows]) for name in ("single", "best", "agreement") if name in rows[0]},
    }


def describe_run(predictor: Predictor) -> Row:
    """Return what a result was measured with, for its file: bundle, commit, device, processor and versions."""
    return {
        "bundle": predictor.identity,
        "method": predictor.manifest.model.method,
        "commit": _commit(),
        "device": torch.cuda.get_device_name() if predictor.device.type == "cuda" else str(predictor.device),
        "threads": torch.get_num_threads(),
        "processor": _processor(),
        "machine": platform.machine(),
        "napari-lsegdiff": lsegdiff_core.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _commit() -> str | None:
    """Return the state of the checkout that this file lies in, ``-dirty`` with uncommitted changes; else None."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _processor() -> str:
    """Return the processor's name as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
