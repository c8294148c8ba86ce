"""From strokes, points and outlines to the next run, and from its samples to the one that the user takes."""

from __future__ import annotations

from functools import partial

from napari.components import ViewerModel
from napari.layers import Image, Layer
from qtpy.QtCore import QObject, Signal

from lsegdiff_core.hints import Hints
from lsegdiff_core.hypotheses import AGREED
from napari_lsegdiff._correct import THUMBNAIL, CorrectPanel, Gallery, Thumb
from napari_lsegdiff._hint_layers import INSIDE, OUTSIDE, HintLayers
from napari_lsegdiff._jobs import Job
from napari_lsegdiff._objects import said_of
from napari_lsegdiff._overlays import AGREEMENT, PREVIEW, STROKES, Overlays
from napari_lsegdiff._session import Session
from napari_lsegdiff._survey import Survey, survey
from napari_lsegdiff._worker import Failed, NewestWins, Preview

ONE_SAMPLE = "One sample, so nothing to compare: Re-diffuse takes one, to be quick; Run takes as many as Seeds says"


class Correction(QObject):
    """The panel and the gallery at work.

    Parameters
    ----------
    viewer, session
        What is corrected.
    panel, gallery
        The controls; the dock connects `CorrectPanel.redraw` itself, since it owns the runs.
    parent
        The dock.

    Attributes
    ----------
    adopted
        Emitted with the job and the number of a run that the user chose from the gallery.
    """

    adopted = Signal(object, int)

    def __init__(
        self, viewer: ViewerModel, session: Session, panel: CorrectPanel, gallery: Gallery, parent: QObject
    ) -> None:
        super().__init__(parent)
        self._session, self._panel, self._gallery = session, panel, gallery
        self._layers = HintLayers(viewer)
        self._overlays = Overlays(viewer, self._on_taken)
        self._surveyor = NewestWins(self)
        self._job: Job | None = None
        self._run: int | None = None  # whose samples the gallery shows
        self._survey: Survey | None = None
        self._parents: dict[int, int] = {}  # an adopted hypothesis came from this run
        panel.point.connect(self._on_point)
        panel.shapes.connect(self._on_shapes)
        panel.strokes_shown.connect(lambda shown: self._show_strokes())
        gallery.chosen.connect(self._on_chosen)
        gallery.agreement_shown.connect(lambda shown: self._show_agreement())
        self._surveyor.done.connect(self._on_surveyed)

    def close(self) -> None:
        """Stop, and take the overlays away."""
        self._surveyor.close()
        self._layers.close()
        self._overlays.close()

    @property
    def comparing(self) -> bool:
        """Whether samples are being compared."""
        return not self._surveyor.idle

    def layers(self, image: Image) -> list[Layer]:
        """Return the layers that go with an image and its mask: agreement, strokes, points and shapes."""
        return [*self._overlays.layers(image), *self._layers.layers(image)]

    def hints(self, job: Job) -> Hints:
        """Return all that the user said of the object; an outline is taken for the current mask first."""
        outline = self._layers.outline(job)
        if outline is not None and self._session.draw(job, outline):
            self._layers.remove_outline(job)
        return self._session.hints(job, self._layers.locked(job))

    def preview(self, job: Job, preview: Preview) -> None:
        """Show the mask while it forms."""
        self._overlays.show_preview(job.image, job.frame, preview.square, preview.geometry)

    def end_preview(self, job: Job) -> None:
        """Take the forming mask away."""
        self._overlays.hide(job.image, PREVIEW)

    def show(self, job: Job | None) -> None:
        """Follow what is on the canvas: its object, strokes, hypotheses and agreement."""
        if self._job is not None and (job is None or job.image is not self._job.image):
            for kind in (STROKES, AGREEMENT):
                self._overlays.hide(self._job.image, kind)
        self._job = job
        layer = None if job is None else self._session.mask_layer(job.image)
        for widget in (self._panel.split_button, self._panel.show_strokes):
            widget.setEnabled(layer is not None)
        self._panel.forget_button.setEnabled(job is not None and self._session.edited(job))
        for button in (self._panel.redraw_button, self._panel.inside, self._panel.outside, self._panel.box):
            button.setEnabled(job is not None)
        if job is None:
            self._panel.object.setText("")
        else:
            self._panel.show_object(job.number, said_of(layer, job.number, "name"))
        self._show_strokes()
        self._follow_run(job)

    def _follow_run(self, job: Job | None) -> None:
        run = None if job is None else self._session.run(job)
        run = None if run is None else self._parents.get(run, run)
        if run == self._run:
            return
        self._run, self._survey = run, None
        prediction = self._session.kept(run)
        if job is None or run is None or prediction is None:
            self._gallery.clear()
            self._show_agreement()
        elif len(prediction.squares) < 2:
            self._gallery.clear(ONE_SAMPLE)
            self._show_agreement()
        else:
            self._gallery.clear("Comparing the samples…")
            morphology = self._session.morphology(job) or prediction.morphology
            self._surveyor.request("survey", partial(survey, job, run, prediction.refined(morphology), THUMBNAIL))

    def _on_surveyed(self, result: Survey | Failed, tag: object) -> None:
        if isinstance(result, Failed):
            self._gallery.clear(result.line)
        elif result.run == self._run:
            self._survey = result
            if result.agreed:
                self._gallery.clear(f"All samples agree: their mean pairwise IoU is above {AGREED}")
            elif len(result.found) == 1:
                self._gallery.clear("One hypothesis: the samples differ at its edge only")
            else:
                total = sum(len(hypothesis.seeds) for hypothesis in result.found)
                thumbs = [
                    Thumb(picture, len(hypothesis.seeds), total)
                    for picture, hypothesis in zip(result.pictures, result.found, strict=True)
                ]
                self._gallery.show_thumbs(thumbs)
            self._show_agreement()

    def _on_chosen(self, place: int) -> None:
        survey = self._survey
        if survey is None:
            return
        run = self._session.accept(survey.job, survey.found[place].prediction)
        if run is not None:
            self._parents[run] = survey.run
            self.adopted.emit(survey.job, run)

    def _show_agreement(self) -> None:
        self._gallery.agreement.setEnabled(self._survey is not None)
        if self._survey is not None and self._gallery.agreement.isChecked():
            job = self._survey.job
            self._overlays.show_agreement(job.image, job.frame, self._survey.agreement)
        elif self._job is not None:
            self._overlays.hide(self._job.image, AGREEMENT)

    def _show_strokes(self) -> None:
        if self._job is None:
            return
        shown = self._panel.show_strokes.isChecked()
        strokes = self._session.strokes(self._job) if shown else None
        self._overlays.show_strokes(self._job.image, self._job.frame, strokes)

    def _on_taken(self, kind: str) -> None:
        """Untick what shows a layer that the user has deleted: it shall not come again by itself."""
        for mine, box in ((STROKES, self._panel.show_strokes), (AGREEMENT, self._gallery.agreement)):
            if kind == mine:
                box.setChecked(False)

    def _on_point(self, inside: bool) -> None:
        if self._job is not None:
            self._layers.place_points(self._job, INSIDE if inside else OUTSIDE)

    def _on_shapes(self) -> None:
        if self._job is not None:
            self._layers.draw_shapes(self._job)
