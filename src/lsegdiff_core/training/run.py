"""A whole training: raw folders to the weights that a bundle takes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lsegdiff_core.config import read_json, to_dict
from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.files import write_text
from lsegdiff_core.models.image_encoder import EfficientNetLite0
from lsegdiff_core.models.mask_vae import MaskVAE
from lsegdiff_core.models.networks import Networks
from lsegdiff_core.training import parallel
from lsegdiff_core.training.checkpoint import load_checkpoint, save_checkpoint
from lsegdiff_core.training.config import OptimConfig, TrainConfig
from lsegdiff_core.training.datasets import Store
from lsegdiff_core.training.loop import Report, Task, fit
from lsegdiff_core.training.train_denoiser import ConditionalDenoiser, DenoiserTask
from lsegdiff_core.training.train_vae import VAETask, measure_latent_scale

WEIGHTS = ("best", "last")


def train(
    config: TrainConfig,
    stores: tuple[Store, Store],
    out: Path,
    backbone: Path | None = None,
    init: Networks | None = None,
    device: torch.device | None = None,
) -> Iterator[tuple[str, Report]]:
    """Train both stages, one after the other, resuming whatever ``out`` holds.

    Parameters
    ----------
    config
        What to train.
    stores
        Training and validation images.
    out
        Folder of checkpoints and of ``log.jsonl``.
    backbone
        safetensors file with timm's weights of the image encoder's backbone; random weights when None.
    init
        Start both stages from these networks instead.
    device
        Where to train; the CPU when None.

    Yields
    ------
    tuple
        Name of the stage, ``"vae"`` or ``"denoiser"``, and its report.

    Raises
    ------
    LSegDiffError
        For a loss that is not finite, an ``out`` that belongs to another config, or a mask VAE that is neither trained
        nor given.
    """
    device = device or torch.device("cpu")
    pretrained = None if backbone is None else load_backbone(backbone)
    store, validation = stores
    _claim(out, config)
    if config.vae.steps:
        vae_task = VAETask(config, validation, device)
        if init is not None:
            vae_task.model.load_state_dict(init.vae.state_dict())
        yield from _stage("vae", vae_task, store, config.vae, config.seed, out)
        vae = _best_vae(config, out)
        scale = measure_latent_scale(vae.to(device), store, config.model.vae.size, device)
    elif init is not None:
        # training it on would move its latents away from those that the denoiser knows
        if not parallel.rank():
            save_checkpoint(out / "vae" / "best.pt", {"ema": init.vae.state_dict()})
        parallel.wait()
        vae, scale = _best_vae(config, out), init.latent_scale
    else:
        raise LSegDiffError("vae.steps: 0 keeps the mask VAE of the bundle that a training starts from; give --init")
    if not parallel.rank():
        write_text(out / "latent_scale.json", json.dumps({"latent_scale": scale}))
    task = DenoiserTask(config, vae, scale, validation, device)
    assert isinstance(task.model, ConditionalDenoiser)
    if init is not None:
        task.model.encoder.load_state_dict(init.encoder.state_dict())
        task.model.hint_encoder.load_state_dict(init.hint_encoder.state_dict())
        task.model.denoiser.load_state_dict(init.denoiser.state_dict())
    elif pretrained is not None:
        task.model.encoder.backbone.load_state_dict(pretrained)
    yield from _stage("denoiser", task, store, config.denoiser, config.seed, out)


def load_backbone(path: Path) -> dict[str, Tensor]:
    """Return timm's EfficientNet-Lite0 weights in the safetensors file ``path``, float32; its classifier is left out.

    Raises
    ------
    LSegDiffError
        If the file is not safetensors or lacks a weight.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise LSegDiffError(
            f"{path}: not a safetensors file ({error}); give timm's tf_efficientnet_lite0 weights"
        ) from error
    wanted = EfficientNetLite0().state_dict()
    missing = [name for name in wanted if name not in weights and not name.endswith("num_batches_tracked")]
    if missing:
        raise LSegDiffError(f"{path}: lacks '{missing[0]}'; give timm's tf_efficientnet_lite0 weights")
    return {name: weights.get(name, value).float() for name, value in wanted.items()}


def collect(config: TrainConfig, out: Path, weights: str = "best") -> tuple[Networks, dict[str, float]]:
    """Return the networks of a training in ``out``, with averaged weights, and their validation measures.

    Parameters
    ----------
    config
        The training's config.
    out
        Its folder.
    weights
        ``best``, of the highest validation score, or ``last``, of the last step.

    Raises
    ------
    LSegDiffError
        If the training has not come to its first validation yet, or for another name of weights.
    """
    chosen = load_checkpoint(weights_file(out, weights))
    vae = _best_vae(config, out)
    model = ConditionalDenoiser(config.model, vae).eval()
    model.load_state_dict(chosen["ema"])
    scale = float(read_json(out / "latent_scale.json")["latent_scale"])
    networks = Networks(vae, model.encoder, model.hint_encoder, model.denoiser, scale)
    return networks, {"step": chosen["step"], **chosen["measures"]}


def weights_file(out: Path, weights: str) -> Path:
    """Return the denoiser's checkpoint in ``out`` that ``weights``, best or last, stands for.

    Raises
    ------
    LSegDiffError
        For another name.
    """
    if weights not in WEIGHTS:
        raise LSegDiffError(f"weights: unknown name '{weights}'; choose one of {', '.join(WEIGHTS)}")
    return out / "denoiser" / f"{weights}.pt"


def _best_vae(config: TrainConfig, out: Path) -> MaskVAE:
    vae = MaskVAE(config.model.vae)
    vae.load_state_dict(load_checkpoint(out / "vae" / "best.pt")["ema"])
    return vae.eval()


def _stage(
    name: str, task: Task, store: Store, optim: OptimConfig, seed: int, out: Path
) -> Iterator[tuple[str, Report]]:
    began = time.time()
    for report in fit(task, store, optim, seed, out / name):
        if parallel.rank():
            continue
        row: dict[str, Any] = {
            "stage": name,
            "step": report.step,
            "validation": report.validation,
            "seconds": round(time.time() - began, 1),
            **{key: round(value, 5) for key, value in report.values.items()},
        }
        with (out / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(row) + "\n")
        yield name, report
    parallel.wait()  # for the file of the best weights


def _claim(out: Path, config: TrainConfig) -> None:
    path, mine = out / "config.json", json.dumps(to_dict(config), indent=1)
    if path.exists() and path.read_text(encoding="utf-8") != mine:
        raise LSegDiffError(f"{path}: holds a training with another config; give another --out or delete that folder")
    if not parallel.rank():
        write_text(path, mine)
