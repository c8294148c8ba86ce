"""Which key does what: none that napari's layers use, each of them to be changed in the settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from napari.utils.key_bindings import coerce_keybinding
from napari.utils.shortcuts import default_shortcuts


@dataclass(frozen=True)
class Shortcuts:
    """The key of each action, as napari writes keys."""

    rediffuse: str = "G"
    accept: str = "K"
    skip: str = "Q"
    next: str = "N"
    previous: str = "Shift-N"
    run: str = "W"
    help: str = "H"


DEFAULT = Shortcuts()
MEANINGS = {
    "rediffuse": "Re-diffuse: draw the rest again around your strokes",
    "accept": "Accept the mask, next image",
    "skip": "Skip the image",
    "next": "Next image",
    "previous": "Previous image",
    "run": "Run, or cancel the run",
    "help": "Show these keys",
}


def checked(wanted: Mapping[str, str]) -> tuple[Shortcuts, list[str]]:
    """Return the shortcuts with the changes that are possible, and a line for each one that is not."""
    taken = {str(key) for keys in default_shortcuts.values() for key in keys}
    chosen = {field.name: str(field.default) for field in fields(Shortcuts)}
    problems = []
    for name, key in wanted.items():
        typed = str(coerce_keybinding(key)).strip()
        if not typed:
            problems.append(f"{name}: '{key}' is no key; write it as K or Shift-K; the default holds")
            continue
        others = {str(coerce_keybinding(other)) for action, other in chosen.items() if action != name}
        if typed in taken or typed in others:
            problems.append(f"{name}: '{key}' is used already; the default holds")
        else:
            chosen[name] = key
    return Shortcuts(**chosen), problems


def written(key: str) -> str:
    """Return a key as a button shows it."""
    return key.replace("Shift-", "⇧").replace("-", "+")
