"""The objects of a mask: ids, classes, names and colours, and how each was made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from napari.layers import Labels
from napari.utils.colormaps import DirectLabelColormap
from numpy.typing import NDArray

import lsegdiff_core
from lsegdiff_core.classes import ObjectClass, is_colour, reclassed
from lsegdiff_core.config import from_dict
from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.saved import user_part
from napari_lsegdiff._frames import colours

T = TypeVar("T")

# Where a Labels layer's metadata says how its frames were made, for the writer.
METADATA = "lsegdiff"
# What an object is called as long as nobody knows better.
UNKNOWN_CLASS = "lesion"
# What of a run is an object's own; the rest is the frame's.
OWN = ("sampling", "hints", "morphology", "bundle")


@dataclass(frozen=True)
class Origin:
    """How an object was made: the number of the run, None without one, and its provenance, ready for JSON."""

    run: int | None
    provenance: dict[str, Any]

    def config(self, part: str, kind: type[T]) -> T | None:
        """Return a part of the provenance, such as ``sampling``; None if nobody knows it."""
        known = self.provenance.get(part)
        try:
            return None if known is None else from_dict(kind, known)
        except LSegDiffError:  # another version wrote it, or somebody by hand
            return None

    @property
    def bundle(self) -> tuple[str, str] | None:
        """Name and sha256 of the model; None if no model made it, or nobody knows."""
        known = self.provenance.get("bundle")
        if not isinstance(known, Mapping) or not isinstance(known.get("sha256"), str):
            return None
        return str(known.get("name", "")), known["sha256"]


def unknown_provenance() -> dict[str, Any]:
    """Return what is known of a mask that no prediction made."""
    return {"versions": {"napari-lsegdiff": lsegdiff_core.__version__, "numpy": np.__version__}}


def list_objects(
    layer: Labels,
    numbers: Iterable[int],
    class_name: str | None = None,
    rows: Iterable[Mapping[str, Any]] = (),
    classes: Sequence[ObjectClass] = (),
) -> None:
    """See to it that the layer's features have a row for each of the objects, and that it shows their colours.

    The columns are index (the id), class, name and colour (#rrggbb). What stands there stays: it is the user's. A new
    object gets what ``rows``, of the same columns, say of it. If there are ``classes``, it is one of them, the first if
    nothing better is known, and has its colour.
    """
    # napari takes the row of index 0 for the background, and says what stands there in its status bar
    table: dict[str, list[Any]] = {"index": [0], "class": ["none"], "name": ["background"], "colour": ["none"]}
    if "index" in layer.features:
        theirs = layer.features.to_dict("list")
        # another plugin's table lacks our columns
        table = {column: [""] * len(theirs["index"]) for column in table} | theirs
    given = {row["index"]: row for row in rows}
    new = sorted({number for number in (*numbers, *given) if number} - set(table["index"]))
    if not new:
        return
    named = (name for number, name in zip(table["index"], table["class"], strict=True) if number and name)
    class_name = class_name or next(named, UNKNOWN_CLASS)
    known = {known.name: known.colour for known in classes}
    if known and class_name not in known:
        class_name = next(iter(known))
    for number in new:
        colour = known.get(class_name) or _colour(layer, number)
        row = {"index": number, "class": class_name, "name": f"{class_name} {number}", "colour": colour}
        row |= given.get(number, {})
        for column, values in table.items():
            values.append(row.get(column))
    layer.features = table
    _show_colours(layer)


def object_rows(layer: Labels) -> list[dict[str, Any]]:
    """Return the rows of the layer's table of objects, ready for JSON; a column that is not known is left out."""
    if "index" not in layer.features:
        return []
    rows = layer.features.to_dict("records")
    return [
        {"index": int(row["index"])}
        | {column: row[column] for column in ("class", "name", "colour") if isinstance(row.get(column), str)}
        for row in rows
        if row["index"]
    ]


def said_of(layer: Labels | None, number: int, column: str) -> str:
    """Return what the layer's table says of an object: its class, name or colour; empty if it does not know."""
    rows = [] if layer is None else object_rows(layer)
    return next((str(row.get(column, "")) for row in rows if row["index"] == number), "")


def _colour(layer: Labels, number: int) -> str:
    colormap = layer.colormap
    if isinstance(colormap, DirectLabelColormap) and number not in colormap.color_dict:
        colormap = colours()
    red, green, blue = (round(float(value) * 255) for value in colormap.map(number)[:3])
    return f"#{red:02x}{green:02x}{blue:02x}"


def _show_colours(layer: Labels) -> None:
    """Let the layer show each object in the colour that stands in its table."""
    wanted = {row["index"]: row["colour"].lower() for row in object_rows(layer) if is_colour(row.get("colour"))}
    if any(_colour(layer, number) != colour for number, colour in wanted.items()):
        layer.colormap = DirectLabelColormap(color_dict=wanted | {None: "white", 0: "transparent"})


def describe(origins: Mapping[int, Origin], edited: bool) -> dict[str, Any]:
    """Return how a frame was made: the newest run's provenance, ``edited``, and in ``made`` each object's own part."""
    newest = max(origins.values(), key=lambda origin: origin.run or 0, default=None)
    frame = unknown_provenance() if newest is None else dict(newest.provenance)
    made = {
        number: {name: origin.provenance[name] for name in OWN if name in origin.provenance}
        for number, origin in origins.items()
    }
    return {**frame, "edited": edited, "made": made}


def sidecar(known: Mapping[str, Any] | None, labels: NDArray[np.integer], features: Any) -> dict[str, Any]:
    """Return the provenance that is written beside a mask.

    Parameters
    ----------
    known
        From `describe`; None if nothing is known. ``strokes`` and ``seconds`` in it are the user's part.
    labels
        (H, W), the pixels that are written.
    features
        The layer's table of objects, a pandas DataFrame; None without one.

    Returns
    -------
    dict
        Ready for JSON; ``objects`` lists id, class, name, colour and how it was made, for each object in ``labels``.
    """
    frame = dict(known) if known is not None else unknown_provenance()
    made = frame.pop("made", {})
    if "seconds" in frame:
        frame |= user_part(frame.pop("strokes"), frame["seconds"])
    table: dict[int, dict[str, Any]] = {}
    if features is not None and "index" in features:
        table = features.drop_duplicates("index").set_index("index").to_dict("index")
    objects = []
    for number in np.unique(labels):
        if number:
            row = table.get(int(number), {})
            named = {column: row.get(column) for column in ("class", "name", "colour")}
            about = {column: value for column, value in named.items() if isinstance(value, str) and value}
            objects.append({"id": int(number), **about, **made.get(int(number), {})})
    return {**frame, "objects": objects}


def read_provenance(
    provenance: Mapping[str, Any],
) -> tuple[dict[int, dict[str, Any]], list[dict[str, Any]]]:
    """Return, by their ids, how the objects of a saved mask were made, and the rows of the table of them."""
    objects = provenance.get("objects", [])
    theirs = ("objects", "mask", "edited", "changed", "seconds")
    frame = {name: value for name, value in provenance.items() if name not in theirs}
    made = {int(item["id"]): {**frame, **{name: item[name] for name in OWN if name in item}} for item in objects}
    rows = [
        {"index": int(item["id"]), **{column: str(item.get(column, "")) for column in ("class", "name", "colour")}}
        for item in objects
    ]
    return made, rows


def set_class(layer: Labels, number: int, class_name: str, colour: str) -> None:
    """Make object ``number`` one of a class, and show it in the class's colour, ``#rrggbb``."""
    list_objects(layer, [number], class_name)
    table = layer.features
    row = table["index"] == number
    table.loc[row, ["class", "name", "colour"]] = [class_name, f"{class_name} {number}", colour]
    layer.features = table
    _show_colours(layer)


def reclass(layer: Labels, classes: Sequence[ObjectClass], moved: Mapping[str, str]) -> None:
    """Follow a change of the project's classes; see `lsegdiff_core.classes.reclassed`."""
    table, columns = layer.features, ["class", "name", "colour"]
    for row in object_rows(layer):
        about = reclassed(row, row["index"], classes, moved)
        if about != row:
            table.loc[table["index"] == row["index"], columns] = [about[column] for column in columns]
    layer.features = table
    _show_colours(layer)
