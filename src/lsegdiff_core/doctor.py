"""What one wants to know of an installation: versions, devices, the bundle, and whether it computes what it should."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import psutil

import lsegdiff_core
from lsegdiff_core.bundle import Manifest, bundle_hash, find_bundle, read_manifest, read_replay
from lsegdiff_core.memory import release_memory

PACKAGES = ("torch", "numpy", "scikit-image", "napari")
# Largest difference in probability between a bundle's test result and this machine's.
TOLERANCE = 1e-4
WARNING = "Not a medical device."
# What a bundle calls its mean Dice at so many sampler steps.
DICE = re.compile(r"dice_[0-9]+")


@dataclass(frozen=True)
class Card:
    """A bundle's manifest, where it lies, and the sha256 of ``bundle.json``."""

    manifest: Manifest
    folder: Path
    sha256: str

    @property
    def validation(self) -> str:
        """The mean Dice on the validation images by sampler steps, and of which data these are; empty if not known."""
        scores = self.manifest.training.get("validation")
        known = scores.items() if isinstance(scores, dict) else ()
        dice = {
            int(name[5:]): value for name, value in known if DICE.fullmatch(name) and isinstance(value, int | float)
        }
        parts = [f"{dice[steps]:.3f} at {steps}" for steps in sorted(dice)]
        if not parts:
            return ""
        parts[0] += " step" if 1 in dice else " steps"
        of = f" (held-out images of {', '.join(self._sources)})" if self._sources else ""
        return f"Dice {', '.join(parts)}{of}"

    @property
    def _sources(self) -> list[str]:
        """The folders whose images the bundle was validated on."""
        try:
            sources = self.manifest.training["config"]["data"]["sources"]
            return [str(source["folder"]) for source in sources if source.get("validation")]
        except (KeyError, TypeError, AttributeError):  # trained on something else, or a manifest by another hand
            return []

    def rows(self) -> Iterator[tuple[str, str]]:
        """Give name and value of each line; the folder is not among them."""
        yield "bundle", f"{self.manifest.name}: {self.manifest.description}"
        yield "sha256", self.sha256
        yield "licence", self.manifest.licence
        yield "validation", self.validation or "none"


@dataclass(frozen=True)
class Report:
    """An installation.

    Attributes
    ----------
    versions
        Package to version.
    devices
        Name that torch uses, the fastest first, to what it is and its memory.
    card
        The bundle; None if none was asked for.
    """

    versions: dict[str, str]
    devices: dict[str, str]
    card: Card | None

    def __str__(self) -> str:
        rows = [*self.versions.items(), *self.devices.items(), *(self.card.rows() if self.card else ())]
        return "\n".join(f"{name:16s} {value}" for name, value in rows)


@dataclass(frozen=True)
class Check:
    """How far this machine's result is from the one that the bundle was released with, in probability."""

    device: str
    difference: float

    @property
    def passed(self) -> bool:
        """Whether they are the same but for rounding."""
        return self.difference <= TOLERANCE

    def __str__(self) -> str:
        if self.passed:
            return (
                f"Passed: on {self.device} the model gives the result that it was released with (largest difference in "
                f"probability {self.difference:.1e})"
            )
        return (
            f"Not passed: on {self.device} the model gives another result than it was released with (largest "
            f"difference in probability {self.difference:.1e}, at most {TOLERANCE:.0e} is in order); this installation "
            "computes something else, try the CPU or another torch"
        )


def examine(bundle: str | None) -> Report:
    """Gather versions, devices and, unless None, a bundle's card; loads torch.

    Raises
    ------
    LSegDiffError
        If the bundle cannot be read.
    """
    versions = {"napari-lsegdiff": lsegdiff_core.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    card = None
    if bundle is not None:
        folder = find_bundle(bundle)
        card = Card(read_manifest(folder), folder, bundle_hash(folder))
    return Report(versions, _devices(), card)


def check(bundle: str, device: str = "auto") -> Check:
    """Ask a bundle for the result that it was released with.

    The networks are loaded for it and dropped afterwards, so that a predictor at work keeps its image.

    Raises
    ------
    LSegDiffError
        If the bundle cannot be read, holds no test image, or gives values that are not finite.
    """
    from lsegdiff_core.predictor import Predictor

    predictor = Predictor(bundle, device)
    image, expected = read_replay(find_bundle(bundle))
    predictor.set_image(image)
    difference = float(np.abs(predictor.predict().probability - expected).max())
    done = Check(str(predictor.device), difference)
    del predictor
    release_memory()
    return done


def _devices() -> dict[str, str]:
    import torch

    from lsegdiff_core.devices import available_devices

    memory = psutil.virtual_memory()
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, "
    about = {
        "cpu": lambda: machine + _free(memory.available, memory.total),
        "cuda": lambda: f"{torch.cuda.get_device_name()}, {_free(*torch.cuda.mem_get_info())}",
        "mps": lambda: f"Apple GPU, {torch.mps.recommended_max_memory() / 2**30:.1f} GB at most",
    }
    return {name: about[name]() for name in available_devices()}


def _free(free: int, total: int) -> str:
    return f"{free / 2**30:.1f} of {total / 2**30:.1f} GB free"
