"""The classes that objects can have."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lsegdiff_core.errors import LSegDiffError

_COLOUR = re.compile("#[0-9a-fA-F]{6}")


def is_colour(text: object) -> bool:
    """Return whether ``text`` is a colour, ``#rrggbb``."""
    return isinstance(text, str) and _COLOUR.fullmatch(text) is not None


@dataclass(frozen=True)
class ObjectClass:
    """A class of objects and its colour, ``#rrggbb``."""

    name: str
    colour: str

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise LSegDiffError("name: a class needs a name")
        if not is_colour(self.colour):
            raise LSegDiffError(f"colour: '{self.colour}' is no colour; give for example #00e5ff")


DEFAULT_CLASSES = (
    ObjectClass("polyp", "#00e5ff"),
    ObjectClass("instrument", "#ffe100"),
    ObjectClass("lumen", "#b388ff"),
)


def check_classes(classes: Sequence[ObjectClass]) -> None:
    """Raise an `LSegDiffError` if there are none, or two of one name."""
    names = [known.name for known in classes]
    if not names:
        raise LSegDiffError("classes: there are none; add one")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise LSegDiffError(f"classes: '{twice}' is there twice; rename one of them")


def reclassed(
    about: Mapping[str, Any], number: int, classes: Sequence[ObjectClass], moved: Mapping[str, str]
) -> dict[str, Any]:
    """Return what is said of an object after its project's classes were changed.

    Parameters
    ----------
    about
        Its ``class``, ``name`` and ``colour``, as far as they are known, and whatever else.
    number
        Its id.
    classes
        The project's classes from now on.
    moved
        From the name of a class to the one that its objects get instead.

    Returns
    -------
    dict
        ``about`` with the class, that class's colour, and a name that the class gave it; an object of a class that is
        not the project's stays as it is.
    """
    old = about.get("class")
    new = next((known for known in classes if known.name == moved.get(str(old), old)), None)
    if new is None:
        return dict(about)
    name = about.get("name")
    own = f"{new.name} {number}" if name in (None, f"{old} {number}") else name
    return {**about, "class": new.name, "name": own, "colour": new.colour}
