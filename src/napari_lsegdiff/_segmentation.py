"""The user's runs: asked for, under way, and with their masks on the way to the canvas."""

from __future__ import annotations

from time import perf_counter

from qtpy.QtCore import QObject, Signal

from lsegdiff_core.config import MorphologyConfig
from lsegdiff_core.errors import LSegDiffError
from napari_lsegdiff._choices import ImageChoice, SamplingControls
from napari_lsegdiff._controls import RefineControls
from napari_lsegdiff._correction import Correction
from napari_lsegdiff._jobs import Job, Refined
from napari_lsegdiff._landing import Landing
from napari_lsegdiff._panels import RunPanel
from napari_lsegdiff._progress import Paced
from napari_lsegdiff._runner import Runner
from napari_lsegdiff._session import Session
from napari_lsegdiff._worker import Devices, Failed, Finished, Preview, Request, Stage, Update


class Segmentation(QObject):
    """One run at a time, from the button to the mask on the canvas.

    Parameters
    ----------
    session, runner, arrivals
        What knows the masks, what segments, and what brings masks onto the canvas.
    images, sampling, refine
        What is segmented, and how.
    correction
        What the user says of a mask; it also shows the one that forms.
    panel
        Where it is said what happens.
    parent
        The dock.

    Attributes
    ----------
    suggested
        Morphology suggested by a model that was chosen since the last run; the next run takes it.
    sampled
        Emitted with an image and its `Prediction`, before the mask is on the canvas.
    finished
        Emitted after every run with True if its mask is on the canvas.
    """

    sampled = Signal(object, object)
    finished = Signal(bool)

    def __init__(
        self,
        session: Session,
        runner: Runner,
        arrivals: Landing,
        images: ImageChoice,
        sampling: SamplingControls,
        refine: RefineControls,
        correction: Correction,
        panel: RunPanel,
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._session, self._runner, self._arrivals = session, runner, arrivals
        self._images, self._sampling, self._refine = images, sampling, refine
        self._correction, self._panel = correction, panel
        self.suggested: MorphologyConfig | None = None
        self._running: Job | None = None
        self._landing: tuple[Job, int] | None = None  # a run that has its result, which is on its way to the canvas
        self._again = False  # a stroke came when the run could not be stopped any more
        self._started = 0.0
        self._note = ""  # what a run has to say beside its mask
        self._stages = Paced(self._show_stage, self)
        self._previews = Paced(self._show_preview, self)
        runner.updated.connect(self._on_update)

    @property
    def running(self) -> bool:
        """Whether a run is under way."""
        return self._running is not None

    @property
    def landing(self) -> bool:
        """Whether the run under way has its result, which is on its way to the canvas."""
        return self._landing is not None

    # what the user asks for

    def toggle(self) -> None:
        """Run, or cancel the run under way."""
        if self.running:
            self.cancel()
        else:
            self.run()

    def run(self) -> None:
        """Segment the chosen image's frame on the canvas with the chosen model."""
        self._ask(redraw=False)

    def redraw(self) -> None:
        """Segment again under the user's strokes, points and boxes; a run under way is stopped."""
        if self.landing:
            self._again = True
            return
        self.cancel()
        self._ask(redraw=True)

    def cancel(self) -> None:
        """Stop the run; the old mask stays."""
        if self.running and not self.landing:
            self._end("Cancelled; the mask is as it was", False)

    def refine(self, job: Job, merge: int | None = None, run: int | None = None) -> None:
        """Refine the mask of a run, by default of the one on show, as the sliders stand.

        Parameters
        ----------
        job
            Whose mask.
        merge
            Refinements in a row with the same value make one undo item.
        run
            Number of the run.
        """
        if self._landing is not None and self._landing[0] == job:
            # what lands is refined as the sliders stand now, and is an undo item of its own
            run, merge = self._landing[1], None
        function = self._session.refinement(job, self._refine.morphology, run)
        if function is not None:
            self._arrivals.request(job, function, merge)
        elif self._session.morphology(job) is not None:
            self._panel.say("This mask's probability is not at hand any more; press Run to refine it")

    # what comes of it

    def written(self, refined: Refined) -> None:
        """Take notice of a mask that has come onto the canvas; if it is the run's, the run is over."""
        size = int(refined.mask.sum())
        found = f"Mask of {size:,} px" if size else "Nothing found at this threshold"
        if self._landing == (refined.job, refined.origin.run):
            seconds = perf_counter() - self._started
            self._end(f"{found} in {seconds:.2f} s" + (f"; {self._note}" if self._note else ""), True)
        elif not self.running:
            self._panel.say(found)

    def not_written(self, failed: Failed) -> None:
        """Take notice of a mask that could not come onto the canvas."""
        if self.landing:
            self._end(failed.line, False, failed.details)
        else:
            self._panel.say(failed.line, failed.details)

    def removed(self, layer: object) -> None:
        """Take notice of a layer that is gone."""
        if self._running is not None and layer is self._running.image:
            self._end("The image was removed; its mask is dropped", False)

    # within

    def _ask(self, redraw: bool) -> None:
        image, model = self._images.layer, self._sampling.model
        if image is None:
            self._panel.say("No image: open one, or choose File > Open Sample > LSegDiff")
        elif model.bundle is None:
            self._panel.say("No model: choose a folder with bundle.json under Model")
        else:
            try:
                job = self._session.job(image)
            except LSegDiffError as error:
                failed = Failed.of(error)
                self._panel.say(failed.line, failed.details)
            else:
                hints = self._correction.hints(job) if redraw else self._session.neighbours(job)
                # without a mask there is nothing to keep
                kept = redraw and hints is not None and hints.current is not None and bool(hints.current.any())
                sampling = self._sampling.shown if kept else model.sampling
                if redraw:
                    sampling = sampling.unmirrored  # a stroke is to be answered at once
                request = Request(job, model.bundle, model.device.currentText(), sampling, hints)
                self._set_running(job)
                if not self._runner.start(request):
                    self._panel.say("Waiting for the cancelled step to end…")
                return
        self.finished.emit(False)

    def _on_update(self, update: Update) -> None:
        if isinstance(update, Devices):
            self._started = perf_counter()  # the model is loaded
            self._sampling.model.show_devices(update.names)
        elif self._running is None:
            return
        elif isinstance(update, Stage):
            self._stages(update)
        elif isinstance(update, Preview):
            self._previews(update)
        elif isinstance(update, Failed):
            self._end(update.line, False, update.details)
        elif isinstance(update, Finished):
            run = self._session.accept(self._running, update.prediction)
            if run is not None:
                if self.suggested is not None:
                    self._refine.show_morphology(self.suggested)
                    self.suggested = None
                self._landing, self._note = (self._running, run), update.note
                self.sampled.emit(self._running.image, update.prediction)
                self.refine(self._running)
            else:
                self._end("The image was removed; its mask is dropped", False)

    def _end(self, text: str, good: bool, tooltip: str = "") -> None:
        self._runner.stop()
        if self._running is not None:
            self._correction.end_preview(self._running)
        self._set_running(None)
        self._panel.say(text, tooltip)
        self.finished.emit(good)
        if self._again:
            self._again = False
            self.redraw()

    def _show_stage(self, stage: Stage) -> None:
        self._panel.say(stage.text)
        self._panel.show_progress(stage.done, stage.total)

    def _show_preview(self, preview: Preview) -> None:
        if self._running is not None:
            self._correction.preview(self._running, preview)

    def _set_running(self, job: Job | None) -> None:
        self._stages.drop()
        self._previews.drop()
        self._running = job
        self._landing = None
        self._panel.set_running(job is not None)
