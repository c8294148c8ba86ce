"""Which key does what: none that napari uses, each of them to be changed in the settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from app_model import Application
from app_model.types import KeyCode
from napari.components import ViewerModel
from napari.layers import Image, Labels, Points, Shapes, Surface, Tracks, Vectors
from napari.settings import get_settings
from napari.utils.key_bindings import coerce_keybinding


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

# What binds keys beside those that napari's preferences list.
KINDS = (ViewerModel, Image, Labels, Points, Shapes, Surface, Tracks, Vectors)
# They go from row to row, from frame to frame or from field to field.
MOVING = {
    *(KeyCode.UpArrow, KeyCode.DownArrow, KeyCode.LeftArrow, KeyCode.RightArrow, KeyCode.Tab),
    *(KeyCode.PageUp, KeyCode.PageDown, KeyCode.Home, KeyCode.End),
}


def checked(wanted: Mapping[str, str]) -> tuple[Shortcuts, list[str]]:
    """Return the shortcuts with the changes that are possible, and a line for each key that is not."""
    uses = _uses()
    defaults = {field.name: str(field.default) for field in fields(Shortcuts)}
    wishes: dict[str, str] = {}
    problems = []
    for name, key in wanted.items():
        wrong = _wrong(key, uses)
        if wrong:
            problems.append(f"{name}: '{key}' {wrong}; the default {defaults[name]} holds")
        else:
            wishes[name] = key
    # only together do they show what is used twice: two actions may exchange their keys
    while twice := _used_twice(wishes, defaults):
        name, other = twice
        problems.append(f"{name}: '{wishes.pop(name)}' is the key of '{other}'; the default {defaults[name]} holds")
    for name, key in defaults.items():
        wrong = "" if name in wishes else _wrong(key, uses)
        if wrong:  # the user has given it to napari
            problems.append(f"{name}: the default '{key}' {wrong}; choose another key for one of the two")
    return Shortcuts(**{**defaults, **wishes}), problems


def _wrong(key: str, uses: Mapping[str, str]) -> str:
    """Say why a key cannot be one of ours; empty if it can."""
    binding = coerce_keybinding(key)
    pressed = [part.key for part in binding.parts]
    if len(pressed) != 1 or KeyCode.UNKNOWN in pressed:
        return "is no key; write it as K or Shift-K"
    if binding.parts[0].is_modifier_key():
        return "is only held with another key, as in Shift-K"
    if pressed[0] in MOVING:
        return "moves through lists, frames and fields"
    if binding.parts[0].alt and not binding.parts[0].ctrl:
        return "is left to the window's menus, as all with Alt"
    use = uses.get(str(binding))
    return f"is used by napari ({use})" if use else ""


def _uses() -> dict[str, str]:
    """Return what napari does with each key by now, in words; a key that the user took from it is free."""
    app = Application.get_app("napari")  # None without a window
    menus = {} if app is None else {str(known.keybinding): _title(app, known.command_id) for known in app.keybindings}
    fixed = {str(key): _owner(kind) for kind in KINDS for key in kind.class_keymap}
    set_by_user = {
        str(key): name.rpartition(":")[2].replace("_", " ")
        for name, keys in get_settings().shortcuts.shortcuts.items()
        for key in keys
    }
    return {**menus, **fixed, **set_by_user}


def _title(app: Application, command: str) -> str:
    return f"in a menu: {app.commands[command].title.rstrip('.')}"


def _owner(kind: type) -> str:
    return "in the viewer" if kind is ViewerModel else f"in {kind.__name__} layers"


def _used_twice(wishes: Mapping[str, str], defaults: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the last wish for a key that another action has, and that action."""
    keys = {name: str(coerce_keybinding(key)) for name, key in {**defaults, **wishes}.items()}
    pairs = ((name, other) for name in reversed(list(wishes)) for other in keys if other != name)
    return next(((name, other) for name, other in pairs if keys[name] == keys[other]), None)


def written(key: str) -> str:
    """Return a key as a button shows it."""
    return key.replace("Shift-", "⇧").replace("-", "+")
