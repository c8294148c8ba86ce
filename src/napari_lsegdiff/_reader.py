"""File > Open, drag and drop and the command line: an annotation project, by its file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

# light: napari asks before any window of this plugin is open
from lsegdiff_core.project_file import FILE, read_project_file

LayerData = tuple[Any, ...]
NO_LAYERS: list[LayerData] = [(None,)]


def project_reader(path: str | list[str]) -> Callable[[str], list[LayerData]] | None:
    """Return what opens a project's file; None for anything else, also for several files as one stack."""
    return open_project if isinstance(path, str) and Path(path).name == FILE else None


def open_project(path: str) -> list[LayerData]:
    """Open the project of a file in the Annotate tab of the viewer in front.

    Parameters
    ----------
    path
        Of the file, whose name is `FILE`.

    Returns
    -------
    list of tuple
        No layers, as napari wants it to be said: the queue brings them. Without a viewer the project's first open
        image, and its mask if one was saved.

    Raises
    ------
    LSegDiffError
        If the file is no project's; the message names what is wrong. What else stands in the way, the tab says.
    """
    import napari

    folder = Path(path).absolute().parent
    read_project_file(folder)  # before a tab comes that has nothing to show
    viewer = napari.current_viewer()
    if viewer is None:
        return _first_layers(folder)
    from napari_lsegdiff._commands import open_dock

    open_dock(viewer, "Annotate").queue.open_folder(folder)
    return NO_LAYERS


def _first_layers(folder: Path) -> list[LayerData]:
    from lsegdiff_core.data.images import read_image
    from lsegdiff_core.project import Project

    project = Project.open(folder)
    try:
        name = project.first_open
        image, saved = read_image(project.image(name)), project.load(name)
    finally:
        project.close()
    layers: list[LayerData] = [(image, {"name": name}, "image")]
    if saved is not None:
        layers.append((saved.labels, {"name": f"{name} mask"}, "labels"))
    return layers
