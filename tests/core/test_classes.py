from __future__ import annotations

import pytest

from lsegdiff_core.classes import DEFAULT_CLASSES, ObjectClass, check_classes, reclassed
from lsegdiff_core.errors import LSegDiffError

POLYP = DEFAULT_CLASSES[0]


@pytest.mark.parametrize(("name", "colour"), [("", "#ffffff"), (" ", "#ffffff"), ("a", "red"), ("a", "#fff")])
def test_class_without_name_or_colour_is_refused(name: str, colour: str):
    with pytest.raises(LSegDiffError, match="needs a name" if not name.strip() else f"'{colour}' is no colour"):
        ObjectClass(name, colour)


def test_default_classes_are_in_order():
    check_classes(DEFAULT_CLASSES)


def test_object_gets_name_and_colour_of_its_new_class():
    about = {"class": "wart", "name": "wart 3", "colour": "#000000", "area": 9}
    moved = reclassed(about, 3, DEFAULT_CLASSES, {"wart": "polyp"})
    assert moved == {"class": "polyp", "name": "polyp 3", "colour": POLYP.colour, "area": 9}


def test_name_that_the_user_gave_stays():
    assert reclassed({"class": "polyp", "name": "the flat one"}, 3, DEFAULT_CLASSES, {})["name"] == "the flat one"


def test_object_of_another_projects_class_stays_as_it_is():
    about = {"class": "wart", "name": "wart 3"}
    assert reclassed(about, 3, DEFAULT_CLASSES, {"mole": "polyp"}) == about
    assert reclassed({}, 3, DEFAULT_CLASSES, {}) == {}
