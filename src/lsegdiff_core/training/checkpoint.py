"""Checkpoints for resuming; a bundle is what one releases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.files import write_atomically


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` (tensors, numbers, strings, and lists and dicts of them) by temporary file and rename."""
    write_atomically(path, lambda temporary: torch.save(state, temporary))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint; only tensors and plain values are admitted, no code.

    Raises
    ------
    LSegDiffError
        If the file cannot be read or holds anything else.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes that are no checkpoint make torch raise almost anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise LSegDiffError(f"{path}: not a checkpoint ({reason}); delete it to start afresh") from error
    return state
