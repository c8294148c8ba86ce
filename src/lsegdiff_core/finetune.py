"""Training a bundle further on the masks of a project that its user has accepted, and comparing old and new."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from lsegdiff_core.accepted import accepted_masks
from lsegdiff_core.bundle import (
    MANIFEST,
    Manifest,
    bundle_hash,
    find_bundle,
    load_networks,
    read_manifest,
    write_manifest,
)
from lsegdiff_core.comparison import HELD_OUT, LEAST, Comparison, Progress, working
from lsegdiff_core.data.readers import Pair
from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.evaluation import Setting, evaluate
from lsegdiff_core.export import png_binary
from lsegdiff_core.files import write_bytes
from lsegdiff_core.memory import ran_out_of_memory, release_memory
from lsegdiff_core.models.networks import Networks
from lsegdiff_core.predictor import Predictor
from lsegdiff_core.release import release
from lsegdiff_core.training.config import AugmentConfig, LossConfig, OptimConfig, TrainConfig
from lsegdiff_core.training.datasets import Store, stores_of
from lsegdiff_core.training.run import train

# About thirty passes; the number was not tuned, and the limit keeps a processor busy for minutes, not hours.
BATCH, STEPS_PER_IMAGE, MOST_STEPS = 8, 4, 600


def finetune(
    project: Path, bundle: str, out: Path, steps: int | None = None, device: torch.device | None = None
) -> Iterator[Progress]:
    """Train encoders and denoiser of a bundle further; its mask VAE stays.

    One accepted mask in four is held out, and both bundles are measured on these; never one from whose image the old
    bundle, or one that it came from, has learnt. Other accepted masks are learnt from, those without a lesion, too.
    Nothing is left behind when it fails or the generator is closed; what killed processes left beside ``out`` goes.

    Parameters
    ----------
    project
        Folder of a project; it may be open in another session.
    bundle
        What to start from, by name or folder; it is not changed.
    out
        Folder of the new bundle, whose name is the bundle's, too; its manifest's ``training`` holds the comparison. It
        must not exist yet.
    steps
        Training steps of 8 images; four for each image that is learnt from, at most 600, when None.
    device
        Where to train; the CPU when None. A GPU whose memory does not suffice gets smaller batches, as many images all
        in all, and at last the CPU goes on.

    Yields
    ------
    Progress
        Of learning and comparing.

    Raises
    ------
    LSegDiffError
        If ``out`` exists or cannot be made, fewer than 8 masks are accepted, fewer than 2 can be held out, the memory
        does not suffice, or a file cannot be read.
    """
    if out.exists():
        raise LSegDiffError(f"{out}: exists already; give the new model another name")
    device = device or torch.device("cpu")
    source = find_bundle(bundle)
    manifest, networks = load_networks(source)
    with working(out) as work:
        pairs: list[Pair] = []
        for name, image, mask in accepted_masks(project, manifest.classes):
            pairs.append(Pair(name, image, work / "masks" / f"{name}.png"))
            write_bytes(pairs[-1].mask, png_binary.encode(mask.astype(np.uint8), {}))
        if len(pairs) < LEAST:
            raise LSegDiffError(
                f"{project}: {len(pairs)} masks are accepted; accept at least {LEAST} for a model to learn from them"
            )
        parts = _divide(pairs, source, manifest)
        if len(parts.held_out) < LEAST // HELD_OUT:
            raise LSegDiffError(
                f"{project}: the model or one before it has learnt from most of the {len(pairs)} accepted masks, "
                f"which leaves {len(parts.held_out)} to compare on; accept more, or start from an earlier model"
            )
        config = _config(out.name, manifest, len(parts.learnt), steps)
        stores = stores_of(parts.learnt, parts.held_out, config.data, config.store_size)
        config, device = yield from _learn(config, stores, work / "run", networks, device)
        release(config, work / "run", work / "bundle", "last", manifest.min_confidence)
        comparison = yield from _compare_where_it_fits(source, work / "bundle", parts.held_out, device)
        _note(work / "bundle", source, parts, comparison)
        try:
            os.replace(work / "bundle", out)
        except OSError as error:
            raise LSegDiffError(f"{out}: cannot be made ({error.strerror}); give the new model another name") from error


class _Parts(NamedTuple):
    """What is learnt from, what is held out, and the sha256 of every image learnt from: now, and by bundles before."""

    learnt: list[Pair]
    held_out: list[Pair]
    images: set[str]


def _divide(pairs: Sequence[Pair], source: Path, manifest: Manifest) -> _Parts:
    # by what the images hold: another project may have the same names, and a name can change
    hashes = [_sha256(pair.image) for pair in pairs]
    before = set(_texts("learnt_images", source, manifest))
    if not before:  # of an earlier version, which knew names only
        names = _texts("learnt_from", source, manifest)
        before = {known for pair, known in zip(pairs, hashes, strict=True) if pair.name in names}
    # the queue's order may follow the video or the difficulty: one in each four is a fair share of either
    chosen: set[str] = set()
    for end in range(HELD_OUT, len(pairs) + 1, HELD_OUT):
        chosen.update([known for known in hashes[end - HELD_OUT : end] if known not in before][-1:])
    held_out = [pair for pair, known in zip(pairs, hashes, strict=True) if known in chosen]
    learnt = [pair for pair in pairs if pair not in held_out]
    return _Parts(learnt, held_out, before.union(hashes) - chosen)


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise LSegDiffError(
            f"{path}: cannot be read ({error.strerror}); bring the image back, or skip it in the queue"
        ) from error


def _texts(field: str, folder: Path, manifest: Manifest) -> list[str]:
    """Return a list of a manifest's ``training``, whose form nobody has checked; empty if it is not there."""
    listed = manifest.training.get(field, [])
    if not isinstance(listed, list) or not all(isinstance(text, str) for text in listed):
        raise LSegDiffError(f"{folder / MANIFEST}: training.{field}: expected a list of texts; correct or remove it")
    return listed


def _config(name: str, manifest: Manifest, count: int, steps: int | None) -> TrainConfig:
    steps = min(MOST_STEPS, STEPS_PER_IMAGE * count) if steps is None else steps
    return TrainConfig(
        name=name,
        description=f"{manifest.description}; trained further on {count} accepted masks of a project",
        licence=manifest.licence,
        classes=manifest.classes,
        frozen_stages=2,
        model=manifest.model,
        augment=AugmentConfig(specular=0.2, paste=0.1),
        loss=LossConfig(boundary=5.0, recycle=0.75, top=0.5),
        vae=OptimConfig(steps=0),
        denoiser=OptimConfig(
            steps=steps,
            batch=BATCH,
            lr=2e-4,
            encoder_lr=1e-4,
            warmup=min(20, steps // 4),
            ema=0.98,
            log_every=min(5, steps),
            validate_every=steps,
        ),
    )


def _learn(
    config: TrainConfig, stores: tuple[Store, Store], out: Path, networks: Networks, device: torch.device
) -> Generator[Progress, None, tuple[TrainConfig, torch.device]]:
    """Train in the first of `_ways` for which the memory suffices; return that one."""
    for way, place, note in _ways(config, device):
        shutil.rmtree(out, ignore_errors=True)  # what an attempt before has left
        try:
            for stage, report in train(way, stores, out, init=networks, device=place):
                if stage == "denoiser" and not report.validation:
                    yield Progress("learning", report.step, report.steps, note)
            return way, place
        except (RuntimeError, MemoryError) as error:
            if not ran_out_of_memory(error):
                raise
        # only out here is the attempt's memory free: the exception's traceback held it
        release_memory()
    raise LSegDiffError("the memory does not suffice for learning; close other programs, then start again")


def _ways(config: TrainConfig, device: torch.device) -> Iterator[tuple[TrainConfig, torch.device, str]]:
    """Return configs that need less and less memory, each with its device and what is to be said of it."""
    yield config, device, ""
    if device.type == "cpu":
        return
    optim = config.denoiser
    while optim.batch > 1:
        steps = 2 * optim.steps
        optim = dataclasses.replace(optim, batch=optim.batch // 2, steps=steps, validate_every=steps)
        note = f"{optim.batch} at once, for the GPU's memory does not suffice for more"
        yield dataclasses.replace(config, denoiser=optim), device, note
    yield config, torch.device("cpu"), "on the CPU, for the GPU's memory does not suffice"


def _compare_where_it_fits(
    before: Path, after: Path, held_out: Sequence[Pair], device: torch.device
) -> Generator[Progress, None, Comparison]:
    """Compare on the CPU when the GPU's memory does not suffice: what was learnt is not thrown away for that."""
    try:
        return (yield from _compare(before, after, held_out, device))
    except RuntimeError as error:
        if device.type == "cpu" or not ran_out_of_memory(error):
            raise
    release_memory()
    return (yield from _compare(before, after, held_out, torch.device("cpu")))


def _compare(
    before: Path, after: Path, held_out: Sequence[Pair], device: torch.device
) -> Generator[Progress, None, Comparison]:
    """Measure both bundles, each with the sampling and the refinement that it suggests."""
    scores: list[list[float]] = []
    for number, folder in enumerate((before, after)):
        predictor = Predictor(str(folder), str(device))
        setting = Setting(predictor.manifest.sampling, predictor.manifest.morphology)
        scores.append([])
        for row in evaluate(predictor, held_out, [setting]):
            scores[-1].append(row["dice"])
            yield Progress("comparing", number * len(held_out) + len(scores[-1]), 2 * len(held_out))
    return Comparison(tuple(pair.name for pair in held_out), *map(tuple, scores))


def _note(folder: Path, source: Path, parts: _Parts, comparison: Comparison) -> None:
    """Write into the new bundle's manifest where it came from and how it compares."""
    manifest = read_manifest(folder)
    rows = zip(comparison.names, comparison.before, comparison.after, strict=True)
    training = {
        **manifest.training,
        "init": {"name": source.name, "sha256": bundle_hash(source)},
        "learnt_from": [pair.name for pair in parts.learnt],
        "learnt_images": sorted(parts.images),
        "held_out": [{"name": name, "before": before, "after": after} for name, before, after in rows],
    }
    write_manifest(folder, dataclasses.replace(manifest, training=training))
