"""What the queue has on the canvas: one image of a project with its mask, from their files and back into them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Labels
from napari.layers._source import layer_source  # viewer.open would read the file again
from numpy.typing import NDArray
from qtpy.QtCore import QObject, Signal

from lsegdiff_core.config import SamplingConfig
from lsegdiff_core.prediction import Prediction
from lsegdiff_core.project import Project
from lsegdiff_core.saved import Saved
from napari_lsegdiff._autosave import PROJECT
from napari_lsegdiff._choices import SamplingControls
from napari_lsegdiff._files import adopt_saved
from napari_lsegdiff._jobs import Refined
from napari_lsegdiff._objects import Origin, said_of
from napari_lsegdiff._session import Session


class Canvas(QObject):
    """One image of a project at a time.

    Parameters
    ----------
    viewer, session
        Where it is shown, and what knows its mask.
    sampling
        The controls; they show how a saved mask was made while it is on the canvas.
    parent
        The queue.

    Attributes
    ----------
    image
        Its layer; None without one, also when the user has removed it.
    reclassed
        Whether an object has got another class since the mask was saved.
    leaving
        Emitted when somebody else takes the image or its mask away: the viewer does when a script closes it.
    """

    leaving = Signal()

    def __init__(self, viewer: ViewerModel, session: Session, sampling: SamplingControls, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer, self._session, self._sampling = viewer, session, sampling
        self.image: Image | None = None
        self.reclassed = False
        self._kept: NDArray[np.integer] | None = None  # the mask as it was saved, or as the model first drew it
        self._tool: tuple[str, float] | None = None  # mode and brush size of the mask before
        viewer.layers.events.removing.connect(self._on_removing)
        viewer.layers.events.removed.connect(self._on_removed)

    def close(self) -> None:
        """Stop listening to the viewer; the layers stay."""
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        self._viewer.layers.events.removing.disconnect(self._on_removing)

    # the image

    def restored(self, path: Path, project: Path) -> Image | None:
        """Return the layer of an image file that is in the viewer with a mask: a crashed session was restored.

        The mask of another project is not this one's.
        """
        wanted = str(path.resolve())
        return next((layer for layer in self._masked(project) if layer.source.path == wanted), None)

    def first_restored(self, project: Project) -> str | None:
        """Return the first item of a project whose image was restored with a mask."""
        folder = project.folder
        if not self._masked(folder):  # mostly there is none: the disk is not asked for thousands of images then
            return None
        return next((name for name in project.items if self.restored(project.image(name), folder) is not None), None)

    def _masked(self, project: Path) -> list[Image]:
        images = (layer for layer in self._viewer.layers if isinstance(layer, Image) and layer.source.path)
        mine = (layer for layer in images if layer.metadata.get(PROJECT) in (None, str(project)))
        return [layer for layer in mine if self._session.mask_layer(layer) is not None]

    def place(self, name: str, path: Path, pixels: NDArray[np.uint8], seconds: float, project: Path) -> None:
        """Show an image.

        Parameters
        ----------
        name
            Of the layer.
        path
            Of the file; if it was restored with a mask, that layer is taken.
        pixels
            (H, W, 3): what stands in it.
        seconds
            Time that the user has spent on it before; it is counted from now on.
        project
            The folder of the project.
        """
        self.image = self.restored(path, project) or self._added(name, path, pixels)
        self.image.metadata[PROJECT] = str(project)
        self._kept, self.reclassed = None, False
        self._session.start(self._session.job(self.image), seconds)

    def clear(self) -> bool:
        """Take the image and its mask away; False if there is none. The next mask gets the user's brush."""
        if self.mask is not None:
            self._tool = str(self.mask.mode), float(self.mask.brush_size)
        image, self.image = self.image, None
        if image is None:
            return False
        for layer in (self._session.mask_layer(image), image):
            if layer is not None and layer in self._viewer.layers:
                self._viewer.layers.remove(layer)
        return True

    @property
    def seconds(self) -> float:
        """Time that the user has spent on the image until now, all in all."""
        return 0.0 if self.image is None else self._session.spent(self._session.job(self.image))

    def _added(self, name: str, path: Path, pixels: NDArray[np.uint8]) -> Image:
        with layer_source(path=str(path.resolve())):
            image = Image(pixels, name=name, rgb=True)
        self._viewer.add_layer(image)
        return image

    def _on_removing(self, event: Any) -> None:
        if self.image is not None and self._viewer.layers[event.index] in (self.image, self.mask):
            self.leaving.emit()

    def _on_removed(self, event: object) -> None:
        if getattr(event, "value", None) is self.image:
            self.image = None

    # its mask

    @property
    def mask(self) -> Labels | None:
        """The layer of the image's mask."""
        return None if self.image is None else self._session.mask_layer(self.image)

    @property
    def changed(self) -> bool:
        """Whether there is a mask that is not as it was saved, or as the model first drew it."""
        mask = self.mask
        if mask is None:
            return False
        return self.reclassed or self._kept is None or not np.array_equal(mask.data, self._kept)

    @property
    def selected_class(self) -> str:
        """Class of the object that is selected in the mask; empty if nobody knows."""
        return "" if self.image is None else said_of(self.mask, self._session.selected(self.image), "class")

    def draw(self, prediction: Prediction) -> bool:
        """Show the mask of a prediction; False if the image is gone."""
        assert self.image is not None
        job = self._session.job(self.image)
        run = self._session.accept(job, prediction)
        if run is not None:
            self._session.write(Refined(job, prediction.mask, Origin(run, prediction.provenance)))
        return run is not None

    def masked(self) -> None:
        """Take notice of a mask that the model drew; the first one needs not be saved."""
        if self._kept is None:
            self._keep()

    def adopt(self, saved: Saved, seconds: float) -> None:
        """Show a mask that was saved, and how it was sampled; the user spent ``seconds`` on it."""
        assert self.image is not None
        adopt_saved(self._session, self.image, self._session.job(self.image).frame, saved, seconds)
        self._keep()
        job = self._session.job(self.image)
        made = self._session.bundle(job)
        if made is not None:
            self._sampling.model.compare(*made)
        sampling = self._session.sampling(job)
        if sampling is None:
            self.show_own_sampling()
        else:
            self._sampling.lend(sampling)

    def keep_behind(self, saved: Saved) -> bool:
        """Put a saved mask where redo finds it, if it is another one than that on show; return whether it is."""
        mask = self.mask
        if self.image is None or mask is None or saved.labels.shape != mask.data.shape:
            return False
        if np.array_equal(mask.data, saved.labels):
            return False
        adopt_saved(self._session, self.image, self._session.job(self.image).frame, saved, self.seconds)
        mask.undo()
        return True

    def save(self, project: Project, name: str, accepted: bool) -> None:
        """Write the mask as that of an item of a project, accepted or as a draft.

        Raises
        ------
        LSegDiffError
            As `Project.save`.
        """
        image, mask = self.image, self.mask
        assert image is not None
        assert mask is not None
        job = self._session.job(image)
        about = self._session.provenance(image, job.frame) or {}
        about = {**about, "image": {**about.get("image", {}), "name": project.image(name).name}}
        project.save(name, np.asarray(mask.data), self._session.strokes(job), about, accepted, self.seconds)
        self._keep()
        self.reclassed = False

    def _keep(self) -> None:
        mask = self.mask
        self._kept = None if mask is None else np.array(mask.data)
        if mask is not None and self._tool is not None:
            (mask.mode, mask.brush_size), self._tool = self._tool, None

    # how it was sampled

    @property
    def own_sampling(self) -> SamplingConfig | None:
        """How new masks are made while the controls show how a saved one was; None while they show their own."""
        own = self._sampling.own
        return None if own is None else replace(own, strength=1.0)  # new masks start from nothing

    def show_own_sampling(self) -> None:
        """Show the user's own settings again."""
        self._sampling.show_own()
