"""Options that several commands of the command line share, and what becomes of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from lsegdiff_core.config import SAMPLER_NAMES, SamplingConfig
from lsegdiff_core.errors import LSegDiffError

T = TypeVar("T")

Bundle = Annotated[str, typer.Option(help="Name of a bundled model or path of a bundle's folder.")]
Device = Annotated[str, typer.Option(help="auto (a GPU if there is one), cpu, cuda or mps.")]
Data = Annotated[Path, typer.Option(help="Folder of pairs: images/ and masks/, or a known data set's layout.")]
Split = Annotated[Path | None, typer.Option(help="Split file, one name a line; all pairs if left out.")]
Json = Annotated[Path | None, typer.Option("--json", help="Write summary and rows to this file.")]
Sampler = Annotated[
    str | None, typer.Option(help=f"One of {', '.join(SAMPLER_NAMES)}; the bundle's default if left out.")
]
Seeds = Annotated[
    int | None,
    typer.Option(help="Number of seeds: the samples of seeds 0, 1, … are averaged; the bundle's default if left out."),
]
Flip = Annotated[
    bool | None,
    typer.Option(
        "--flip/--no-flip",
        help="Mirror: seeds 0, 1, … take turns at four views of the image, as it is and mirrored, so that one seed "
        "sees no mirrored one; the bundle's default if left out.",
    ),
]
Zoom = Annotated[
    bool | None,
    typer.Option(
        "--zoom/--no-zoom",
        help="Zoom: a second pass over a crop around the first mask, for small lesions; the bundle's default if left "
        "out.",
    ),
]


def sampling_of(
    default: SamplingConfig,
    steps: int | None,
    sampler: str | None,
    seeds: int | None,
    flip: bool | None,
    zoom: bool | None,
) -> SamplingConfig:
    """Return ``default`` with the options that were given.

    Raises
    ------
    LSegDiffError
        For a value out of range.
    """
    if seeds is not None and seeds < 1:
        raise LSegDiffError(f"--seeds: {seeds} is not a number of samples; give 1 or more")
    given = {
        "steps": steps,
        "sampler": sampler,
        "seeds": None if seeds is None else tuple(range(seeds)),
        "flip": flip,
        "zoom": zoom,
    }
    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return replace(default, **chosen)


def numbers(text: str, option: str) -> list[int]:
    """Return the numbers in a list such as ``1,4,10``, whole and at least 1.

    Raises
    ------
    LSegDiffError
        If it is none; the message names the option.
    """
    found = _parse(text, option, int, "whole numbers such as 1,4,10")
    if any(number < 1 for number in found):
        raise LSegDiffError(f"{option}: {min(found)} is not possible; give numbers from 1 on")
    return found


def fractions(text: str, option: str) -> list[float]:
    """Return the numbers in a list such as ``0.5,1``, each in [0, 1].

    Raises
    ------
    LSegDiffError
        If it is none; the message names the option.
    """
    found = _parse(text, option, float, "numbers such as 0.5,1")
    wrong = [number for number in found if not 0 <= number <= 1]
    if wrong:
        raise LSegDiffError(f"{option}: {wrong[0]} is not possible; give numbers from 0 to 1")
    return found


def _parse(text: str, option: str, kind: Callable[[str], T], what: str) -> list[T]:
    """Return the different items of a list with commas, in their order."""
    try:
        return list(dict.fromkeys(kind(part) for part in text.split(",") if part.strip()))
    except ValueError as error:
        raise LSegDiffError(f"{option}: '{text}' is not a list of {what}") from error


def names(text: str, option: str, known: Sequence[str]) -> list[str]:
    """Return the names in a list such as ``float32,bf16``.

    Raises
    ------
    LSegDiffError
        If one is not known; the message names the option.
    """
    chosen = [part.strip() for part in text.split(",") if part.strip()]
    for name in chosen:
        if name not in known:
            raise LSegDiffError(f"{option}: unknown name '{name}'; choose of {', '.join(known)}")
    return chosen


def write_json(
    path: Path | None,
    summary: Sequence[dict[str, Any]],
    rows: Sequence[dict[str, Any]],
    run: dict[str, Any],
    command: str | None = None,
) -> None:
    """Write a result with the command that made it, by default this one; nothing without a path."""
    if path is None:
        return
    from lsegdiff_core.files import write_text

    command = command or "lsegdiff " + " ".join(sys.argv[1:])
    write_text(path, json.dumps({"command": command, "run": run, "summary": summary, "images": rows}, indent=1))
    print(f"wrote     {path}")
