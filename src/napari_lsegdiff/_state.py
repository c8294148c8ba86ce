"""How the controls of the dock stood when it was closed: a file in the user's state folder."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path

import platformdirs

from lsegdiff_core.config import MorphologyConfig, SamplingConfig, from_dict, read_json, require, to_dict
from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.files import write_text

logger = logging.getLogger(__name__)
DEVICES = ("auto", "cpu", "cuda", "mps")


@dataclass(frozen=True)
class Values:
    """Where the model runs, how it samples, and how masks are refined."""

    device: str = "auto"
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    morphology: MorphologyConfig = field(default_factory=MorphologyConfig)

    def __post_init__(self) -> None:
        require(self.device in DEVICES, "device", self.device, f"one of {', '.join(DEVICES)}")


@dataclass(frozen=True)
class State:
    """The dock's controls.

    Attributes
    ----------
    bundle
        Name or folder of the chosen model; empty without one.
    folders
        The models in folders that the list offered.
    chosen
        How the controls stood.
    suggested
        What the user's settings and the model suggested at that time.
    after_stroke
        Whether every stroke was followed by a re-diffusion.
    tab
        The title of the tab in front.
    """

    bundle: str = ""
    folders: tuple[str, ...] = ()
    chosen: Values = Values()
    suggested: Values = Values()
    after_stroke: bool = False
    tab: str = ""

    def values(self, suggested: Values) -> Values:
        """Return how the controls are to stand where settings and model suggest ``suggested`` by now.

        What they suggest anew goes before what was chosen when they suggested something else.
        """
        return Values(
            self.chosen.device if self.suggested.device == suggested.device else suggested.device,
            self.chosen.sampling if self.suggested.sampling == suggested.sampling else suggested.sampling,
            self.chosen.morphology if self.suggested.morphology == suggested.morphology else suggested.morphology,
        )


def state_file() -> Path:
    """Return where the state stands: in the system's place for an application's state."""
    return platformdirs.user_state_path("lsegdiff", appauthor=False) / "dock.json"


def load_state() -> State | None:
    """Read the state; None without a file, and with one that is not in order, which the log then says."""
    path = state_file()
    if not path.exists():
        return None
    try:
        return from_dict(State, read_json(path), "state")
    except LSegDiffError as error:
        logger.warning("The dock's last state is not taken: %s", str(error).removeprefix(f"{path}: "))
        return None


def save_state(state: State) -> None:
    """Write the state; a system that refuses is mentioned in the log."""
    path = state_file()
    try:
        write_text(path, json.dumps(to_dict(state), indent=1, ensure_ascii=False) + "\n")
    except LSegDiffError as error:
        logger.warning("The dock's state is not kept: %s", str(error).removeprefix(f"{path}: "))
