"""Learn from my corrections: the model is trained further in a process of its own, then both are compared."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from time import monotonic

from qtpy.QtCore import QObject, QProcess, QProcessEnvironment, Qt, Signal
from qtpy.QtWidgets import QDialog, QProgressBar, QPushButton, QVBoxLayout, QWidget

from lsegdiff_core.accepted import painted
from lsegdiff_core.comparison import HELD_OUT, LEAST, Progress, clear_leftovers, read_comparison
from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.project import Project
from napari_lsegdiff._choices import ModelChoice
from napari_lsegdiff._controls import row
from napari_lsegdiff._text import Wrapped
from napari_lsegdiff._worker import Failed, NewestWins

MODELS = "models"
# Held-out masks below which a difference of the means says little.
FEW = 20


class Learner(QObject):
    """Runs ``lsegdiff finetune``; the window and its model go on working.

    Attributes
    ----------
    progressed
        Emitted with a `Progress`.
    done
        Emitted with the folder of the new bundle.
    failed
        Emitted with one line that says why, and all that the process had to say.
    """

    progressed = Signal(object)
    done = Signal(object)
    failed = Signal(str, str)

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._process: QProcess | None = None
        self._out = Path()

    @property
    def running(self) -> bool:
        """Whether it is at work."""
        return self._process is not None

    def start(self, project: Path, bundle: str, out: Path, device: str) -> None:
        """Train ``bundle`` further on the accepted masks of ``project``; the new one is written to ``out``."""
        self.cancel()
        environment = QProcessEnvironment.systemEnvironment()
        # the other half of the processor is for the window
        environment.insert("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 2) // 2)))
        process = QProcess(self)
        process.setProcessEnvironment(environment)
        process.readyReadStandardOutput.connect(self._on_output)
        process.finished.connect(self._on_finished)
        process.errorOccurred.connect(self._on_error)
        self._process, self._out = process, out
        options = ["--bundle", bundle, "--out", str(out), "--device", device]
        process.start(sys.executable, ["-m", "lsegdiff_core", "finetune", str(project), *options])

    def cancel(self) -> None:
        """Stop it; nothing of it is left."""
        if self._process is None:
            return
        process = self._end()
        process.kill()
        process.waitForFinished(2000)
        clear_leftovers(self._out.parent)

    def _end(self) -> QProcess:
        assert self._process is not None
        process, self._process = self._process, None
        process.readyReadStandardOutput.disconnect(self._on_output)
        process.finished.disconnect(self._on_finished)
        process.errorOccurred.disconnect(self._on_error)
        process.deleteLater()
        return process

    def _on_output(self) -> None:
        assert self._process is not None
        while self._process.canReadLine():
            progress = Progress.parse(bytes(self._process.readLine().data()).decode(errors="replace"))
            if progress is not None:
                self.progressed.emit(progress)

    def _on_finished(self, code: int) -> None:
        process = self._end()
        if code == 0:
            self.done.emit(self._out)
            return
        said = bytes(process.readAllStandardError().data()).decode(errors="replace").strip()
        clear_leftovers(self._out.parent)
        last = said.splitlines()[-1] if said else f"it ended with code {code}"
        self.failed.emit(last.removeprefix("lsegdiff: "), said)

    def _on_error(self, error: QProcess.ProcessError) -> None:
        if error == QProcess.ProcessError.FailedToStart:
            text = self._end().errorString()
            self.failed.emit(f"Python could not be started: {text}", text)


class LearnDialog(QDialog):
    """Says what is learnt from, shows the course, compares, and lets the user choose; the dock stays usable.

    Closed meanwhile, it comes back with the result, which stays until the user has chosen.

    Parameters
    ----------
    choices
        Its model is what learns, and a new one is chosen there.
    parent
        The dock.
    """

    def __init__(self, choices: ModelChoice, parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle("Learn from my corrections")
        self.setAttribute(Qt.WidgetAttribute.WA_ShowWithoutActivating)  # a result takes no key from a user at work
        self._choices = choices
        self._project: Project | None = None
        self._out = Path()
        self._began = 0.0
        self.learner = Learner(self)
        self._counter = NewestWins(self)
        self.text = Wrapped()
        self.text.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.bar = QProgressBar()
        self.start_button = QPushButton("Start")
        self.start_button.setToolTip("Trains in a process of its own; you can go on working meanwhile")
        self.close_button = QPushButton("Close")
        self.close_button.setToolTip("Changes nothing")
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.setToolTip("Stops the training; nothing of it is kept, and your model stays as it is")
        self.use_button = QPushButton("Use the new model")
        self.use_button.setToolTip("Chooses it under Model; the old one stays in the list")
        self.keep_button = QPushButton("Keep the old one")
        self.keep_button.setToolTip("Changes nothing; the new model's folder stays for later")
        column = QVBoxLayout(self)
        column.addWidget(self.text, 1)
        column.addWidget(self.bar)
        column.addLayout(row(self.start_button, self.close_button, self.cancel_button))
        self._answers = row(self.use_button, self.keep_button)
        column.addLayout(self._answers)
        self.resize(400, 240)
        self.start_button.clicked.connect(self._on_start)
        self.close_button.clicked.connect(self.hide)
        self.cancel_button.clicked.connect(self._on_cancel)
        self.use_button.clicked.connect(self._on_use)
        self.keep_button.clicked.connect(self._on_answered)
        self._counter.done.connect(self._on_counted)
        self.learner.progressed.connect(self._on_progress)
        self.learner.done.connect(self._on_done)
        self.learner.failed.connect(self._on_failed)
        self._show("", 0)

    def ask(self, project: Project | None) -> None:
        """Offer to learn from a project's accepted masks, or show what is under way."""
        if not (self.learner.running or self._unanswered):
            self._project = project
            self._offer()
        self.show()
        self.raise_()
        self.activateWindow()

    @property
    def _unanswered(self) -> bool:
        return not self.use_button.isHidden()

    def stop(self) -> None:
        """Stop whatever is under way."""
        self._counter.close()
        self.learner.cancel()

    def _offer(self) -> None:
        project, bundle = self._project, self._choices.bundle
        accepted = 0 if project is None else len(project.accepted())
        if project is None or accepted < LEAST:
            text = f"A model can learn from {LEAST} accepted masks on; so far you have accepted {accepted}."
        elif bundle is None:
            text = "No model is chosen yet; choose one in the Segment tab."
        else:
            text = (
                f"The model {Path(bundle).name} learns from the {accepted} masks that you accepted. "
                f"One in {HELD_OUT} is held out, and on these the new model is compared with the old one, "
                "which stays as it is.\n\nOn a processor this takes a few minutes; you can go on working."
            )
            # reads the sidecars of all masks
            items = list(project.items.values())
            self._counter.request("painted", partial(painted, project.folder, items), text)
        self._show(text, 0, self.start_button, self.close_button)
        self.start_button.setEnabled(accepted >= LEAST and bundle is not None)

    def _on_counted(self, count: int | Failed, offer: str) -> None:
        if self.text.text() == offer and not isinstance(count, Failed):
            self.text.setText(
                f"{offer}\n\nMasks that you painted on: {count}. From the others the model learns little that is "
                "new, and on these the old model cannot be beaten."
            )

    def _on_start(self) -> None:
        assert self._project is not None
        assert self._choices.bundle is not None
        bundle = self._choices.bundle
        models = self._project.folder / MODELS
        stem, number = Path(bundle).name.partition("-tuned")[0], 1
        while (models / f"{stem}-tuned-{number}").exists():
            number += 1
        self._began = monotonic()
        self._show("Getting ready…", None, self.cancel_button)
        out = models / f"{stem}-tuned-{number}"
        self.learner.start(self._project.folder, bundle, out, self._choices.device.currentText())

    def _on_cancel(self) -> None:
        self.learner.cancel()
        self._show("Stopped; nothing was changed.", 0, self.start_button, self.close_button)

    def _on_progress(self, progress: Progress) -> None:
        if progress.stage == "learning":
            left = (monotonic() - self._began) / progress.done * (progress.total - progress.done)
            text = f"Learning; about {left / 60:.0f} min left" if left >= 60 else "Learning; less than a minute left"
        else:
            text = "Comparing both models on the masks held out"
        self._show(", ".join(filter(None, (text, progress.note))), progress.done, self.cancel_button)
        self.bar.setRange(0, progress.total)

    def _on_done(self, folder: Path) -> None:
        self._out = folder
        try:
            comparison = read_comparison(folder)
        except LSegDiffError as error:
            self._on_failed(str(error), str(error))
            return
        gain = sum(comparison.after) - sum(comparison.before)
        verdict = "The new model is better" if gain > 0 else "The old model is better" if gain else "Neither is better"
        text = f"{verdict}. {comparison}. Dice is the overlap with your masks; 1 is perfect."
        if len(comparison.names) < FEW:
            text += (
                f"\n\n{len(comparison.names)} masks say little: before you rely on the new model, look at what "
                "it draws on some images."
            )
        text += f"\n\nThe new model lies in {folder.parent.name}/{folder.name} of the project; share it as a folder."
        self._show(text, 0, self.use_button, self.keep_button)
        self.text.setToolTip(str(folder))
        recommended = self.use_button if gain > 0 else self.keep_button
        self._answers.removeWidget(recommended)
        self._answers.insertWidget(0, recommended)
        recommended.setDefault(True)
        recommended.setFocus()
        self.show()

    def _on_use(self) -> None:
        self._choices.choose(str(self._out))
        self._on_answered()

    def _on_answered(self) -> None:
        self.use_button.hide()
        self.hide()

    def _on_failed(self, line: str, details: str) -> None:
        self._show(f"It failed, and nothing was changed: {line}", 0, self.start_button, self.close_button)
        self.text.setToolTip(details)
        self.show()

    def _show(self, text: str, done: int | None, *buttons: QPushButton) -> None:
        """Show a text, the buttons that make sense now, and with the cancel button how far it is."""
        self.text.setText(text)
        self.text.setToolTip("")
        if done is None:
            self.bar.setRange(0, 0)
        else:
            self.bar.setValue(done)
        self.bar.setVisible(self.cancel_button in buttons)
        mine = (self.start_button, self.close_button, self.cancel_button, self.use_button, self.keep_button)
        for button in mine:
            button.setVisible(button in buttons)
