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
    defaults = {field.name: str(field.default) for field in fields(Shortcuts)}
    wishes: dict[str, str] = {}
    problems = []
    for name, key in wanted.items():
        typed = str(coerce_keybinding(key)).strip()
        if not typed:
            problems.append(f"{name}: '{key}' is no key; write it as K or Shift-K; the default holds")
        elif typed in taken:
            problems.append(f"{name}: '{key}' is used already; the default holds")
        else:
            wishes[name] = key
    # only together do they show what is used twice: two actions may exchange their keys
    while twice := _used_twice(wishes, defaults):
        problems.append(f"{twice}: '{wishes.pop(twice)}' is used already; the default holds")
    return Shortcuts(**{**defaults, **wishes}), problems


def _used_twice(wishes: dict[str, str], defaults: dict[str, str]) -> str | None:
    """Return the last wish for a key that another action has."""
    keys = [str(coerce_keybinding(key)) for key in {**defaults, **wishes}.values()]
    return next((name for name in reversed(wishes) if keys.count(str(coerce_keybinding(wishes[name]))) > 1), None)


def written(key: str) -> str:
    """Return a key as a button shows it."""
    return key.replace("Shift-", "⇧").replace("-", "+")
