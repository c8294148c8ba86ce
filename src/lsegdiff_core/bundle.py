"""Bundles: a folder of ``bundle.json`` and one safetensors file a network; no pickle, hashes checked.

Reading the manifest needs no torch, so that a dock can show name and licence before torch is loaded.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lsegdiff_core.config import ModelConfig, MorphologyConfig, SamplingConfig, from_dict, read_json, to_dict
from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.files import write_bytes, write_text

if TYPE_CHECKING:
    from lsegdiff_core.models.networks import Networks

FORMAT = 2
BUNDLED = Path(__file__).parent / "bundles"
MANIFEST = "bundle.json"
REPLAY = "replay.safetensors"


@dataclass(frozen=True)
class Manifest:
    """What ``bundle.json`` holds.

    Attributes
    ----------
    name, description, licence
        For people; the licence is that of the weights.
    classes
        Names of the classes that the mask's values 1, 2, … stand for.
    model
        Shapes of the networks and the noise schedule.
    latent_scale
        Factor that brings the VAE's latents to unit variance.
    sampling
        Default steps, sampler and seeds.
    threshold
        Default threshold of the probability.
    min_confidence
        Default of `lsegdiff_core.config.MorphologyConfig.min_confidence`.
    training
        Data, protocol and measured validation scores.
    files
        sha256 of each file beside the manifest.
    format
        Version of this layout.
    """

    name: str
    description: str
    licence: str
    classes: tuple[str, ...]
    model: ModelConfig
    latent_scale: float
    sampling: SamplingConfig
    threshold: float
    training: dict[str, Any]
    files: dict[str, str] = field(default_factory=dict)
    min_confidence: float = 0.0
    format: int = FORMAT

    @property
    def morphology(self) -> MorphologyConfig:
        """The refinement that the bundle suggests."""
        return MorphologyConfig(threshold=self.threshold, min_confidence=self.min_confidence)


def available_bundles() -> list[str]:
    """Return the names of the bundles that came with the package."""
    return sorted(path.parent.name for path in BUNDLED.glob(f"*/{MANIFEST}"))


def find_bundle(name: str) -> Path:
    """Return the folder of a bundle, given by the name of a bundled one or by its path.

    Raises
    ------
    LSegDiffError
        If there is none; the message lists the bundled names.
    """
    for folder in (BUNDLED / name, Path(name)):
        if (folder / MANIFEST).is_file():
            return folder
    known = ", ".join(available_bundles()) or "none"
    raise LSegDiffError(f"bundle '{name}': not found; give a folder with {MANIFEST} or a bundled name ({known})")


def read_manifest(folder: Path) -> Manifest:
    """Read ``bundle.json``; loads no torch.

    Raises
    ------
    LSegDiffError
        If it is missing, not valid, or of a newer format.
    """
    path = folder / MANIFEST
    data = read_json(path)
    version = data.get("format") if isinstance(data, dict) else None
    if not isinstance(version, int):
        raise LSegDiffError(f"{path}: has no format number; is it a bundle of this project?")
    if version > FORMAT:
        raise LSegDiffError(
            f"{path}: format {version} is newer than this version reads ({FORMAT}); update napari-lsegdiff"
        )
    if version < FORMAT:
        raise LSegDiffError(
            f"{path}: format {version} is of an earlier version and lacks networks that this one needs ({FORMAT}); "
            "train it anew"
        )
    return from_dict(Manifest, data, str(path))


def bundle_hash(folder: Path) -> str:
    """Return the sha256 of the manifest, which itself holds the hash of every other file."""
    return _sha256((folder / MANIFEST).read_bytes())


def load_networks(folder: Path) -> tuple[Manifest, Networks]:
    """Read a bundle's networks, checking every hash first.

    Returns
    -------
    tuple
        The manifest, and the networks in float32 on the CPU in evaluation mode, without gradients.

    Raises
    ------
    LSegDiffError
        If a file is missing, was changed, is not safetensors, or does not fit the model.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    from lsegdiff_core.models.networks import Networks

    manifest = read_manifest(folder)
    networks = Networks.build(manifest.model, manifest.latent_scale)
    for name, network in networks.components.items():
        path = folder / f"{name}.safetensors"
        content = _checked(path, manifest)
        try:
            weights = load(content)
        except SafetensorError as error:
            raise LSegDiffError(
                f"{path}: not a safetensors file ({error}); pickled weights are never read, convert them first"
            ) from error
        try:
            network.load_state_dict({key: value.float() for key, value in weights.items()})
        except RuntimeError as error:
            raise LSegDiffError(
                f"{path}: weights do not fit the model in {MANIFEST} ({str(error).splitlines()[-1].strip()})"
            ) from error
        network.eval().requires_grad_(False)
    return manifest, networks


def save_bundle(
    folder: Path,
    manifest: Manifest,
    networks: Networks,
    replay: tuple[NDArray[np.uint8], NDArray[np.float32]] | None = None,
) -> Manifest:
    """Write a bundle: weights as float16 safetensors, then the manifest with their hashes.

    The manifest is written last; until then the folder holds no readable new bundle.

    Parameters
    ----------
    folder
        Made when missing.
    manifest
        ``files`` is filled in here.
    networks
        What to store.
    replay
        An image (H, W, 3) uint8 and the probability (H, W) float32 that the bundle gives for it with its default
        sampling; `read_replay` returns them.

    Returns
    -------
    Manifest
        As written.
    """
    import torch
    from safetensors.numpy import save as save_arrays
    from safetensors.torch import save

    contents: dict[str, bytes] = {}
    for name, network in networks.components.items():
        state = {
            key: value.detach().cpu().contiguous().to(torch.float16 if value.is_floating_point() else value.dtype)
            for key, value in network.state_dict().items()
        }
        contents[f"{name}.safetensors"] = save(state)
    if replay is not None:
        contents[REPLAY] = save_arrays({"image": replay[0], "probability": replay[1]})
    for name, content in contents.items():
        write_bytes(folder / name, content)
    manifest = dataclasses.replace(manifest, files={name: _sha256(content) for name, content in contents.items()})
    write_manifest(folder, manifest)
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``bundle.json``."""
    write_text(folder / MANIFEST, json.dumps(to_dict(manifest), indent=1, ensure_ascii=False) + "\n")


def read_replay(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return the test image and the probability that travel with a bundle; see `save_bundle`."""
    from safetensors.numpy import load

    arrays = load(_checked(folder / REPLAY, read_manifest(folder)))
    return arrays["image"], arrays["probability"]


def _checked(path: Path, manifest: Manifest) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise LSegDiffError(
            f"{path}: cannot be read ({error.strerror}); the bundle is incomplete, get it again"
        ) from error
    if _sha256(content) != manifest.files.get(path.name):
        raise LSegDiffError(
            f"{path}: its sha256 differs from the one in {MANIFEST}; the file was changed, get it again"
        )
    return content


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
