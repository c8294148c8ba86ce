from __future__ import annotations

import logging
import subprocess
import sys
import threading

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QLabel

from lsegdiff_core import doctor
from lsegdiff_core.bundle import bundle_hash, find_bundle
from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.memory import Memory
from napari_lsegdiff import _about
from napari_lsegdiff._about import AboutPanel
from napari_lsegdiff._log import LINES, LOGGERS, SessionLog

NO_TORCH = """
import sys
from qtpy.QtWidgets import QApplication
application = QApplication([])
from napari_lsegdiff._about import AboutPanel
panel = AboutPanel()
panel.show_model("polyp", "auto")
application.processEvents()
assert "torch" not in sys.modules, "torch came before anybody looked"
panel.close_events()
"""


@pytest.fixture
def made(qtbot):
    """Make panels, which stop listening to the log at the end of the test."""
    panels = []

    def make():
        panels.append(AboutPanel())
        qtbot.addWidget(panels[-1])
        return panels[-1]

    yield make
    for panel in panels:
        panel.close_events()


@pytest.fixture
def panel(made, qtbot, bundle):
    """The panel, in sight, with the tiny bundle and its facts."""
    panel = made()
    panel.show_model(bundle, "cpu")
    panel.resize(320, 900)
    panel.show()
    settle(qtbot, panel)
    return panel


def settle(qtbot, panel) -> None:
    qtbot.waitUntil(lambda: panel._worker.idle, timeout=30_000)


def texts(panel) -> str:
    return "\n".join(label.text() for label in panel.findChildren(QLabel))


def test_a_hidden_panel_loads_no_torch():
    result = subprocess.run([sys.executable, "-c", NO_TORCH], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_facts_are_gathered_beside_the_window(made, qtbot, bundle, monkeypatch):
    threads = []
    examine = _about.examine

    def watched(*args):
        threads.append(threading.current_thread())
        return examine(*args)

    monkeypatch.setattr(_about, "examine", watched)
    panel = made()
    panel.show_model(bundle, "cpu")
    assert not threads, "nobody looks"
    panel.show()
    settle(qtbot, panel)
    assert threads
    assert threading.main_thread() not in threads


def test_shows_versions_device_and_card(panel, bundle):
    shown = texts(panel)
    for part in ("napari-lsegdiff", "torch", "napari", "PySide6", "GB free", "tiny: for tests", "BSD-3-Clause"):
        assert part in shown
    assert doctor.WARNING in shown
    assert panel.card.sha256.toolTip() == bundle_hash(find_bundle(bundle))
    assert panel.card.folder.toolTip() == bundle


def test_follows_the_model(panel, qtbot):
    panel.show_model("polyp", "cpu")
    settle(qtbot, panel)
    assert "polyp: Colon polyps" in texts(panel)
    text = panel.card.validation.text().replace("\u00a0", " ")
    assert text.startswith("Dice 0.")
    assert text.endswith("(held-out images of kvasir-seg, cvc-clinicdb, polypgen)")
    assert "score" not in text
    assert "_" not in text


def test_fits_a_narrow_dock(panel, qtbot):
    panel.show_model("polyp", "cpu")
    settle(qtbot, panel)
    assert panel.minimumSizeHint().width() <= 300
    for label in panel.findChildren(QLabel):
        assert label.mapTo(panel, label.rect().bottomRight()).x() <= panel.width()


def test_text_can_be_selected(panel):
    for label in (panel.status, panel.card.text, panel.card.folder, panel.card.sha256, panel.card.validation):
        assert label.textInteractionFlags() & Qt.TextInteractionFlag.TextSelectableByMouse


@pytest.mark.parametrize(
    ("difference", "said"),
    [
        (1e-6, "Passed: on cpu the model gives the result that it was released with"),
        (0.5, "Not passed: on cpu the model gives another result than it was released with"),
    ],
)
def test_check_says_how_it_went(panel, qtbot, monkeypatch, difference, said):
    monkeypatch.setattr(_about, "check", lambda bundle, device: doctor.Check(device, difference))
    panel.check_button.click()
    assert not panel.check_button.isEnabled()
    settle(qtbot, panel)
    assert panel.status.text().startswith(said)
    assert panel.check_button.isEnabled()
    assert said in panel.report


def test_check_of_the_released_model(panel, qtbot):
    panel.show_model("polyp", "cpu")
    panel.check_button.click()
    settle(qtbot, panel)
    assert panel.status.text().startswith("Passed: on cpu"), panel.status.text()


def test_a_check_that_fails_is_said(panel, qtbot, monkeypatch):
    def fail(bundle, device):
        raise LSegDiffError("bundle 'tiny': gives values that are not finite")

    monkeypatch.setattr(_about, "check", fail)
    panel.check_button.click()
    settle(qtbot, panel)
    assert "not finite" in panel.status.text()
    assert panel.check_button.isEnabled()


def test_without_a_model_there_is_nothing_to_check(made, qtbot):
    panel = made()
    panel.show()
    settle(qtbot, panel)
    assert not panel.check_button.isEnabled()
    assert "No model is chosen" in texts(panel)


def test_unload_asks_and_shows_the_memory(panel, qtbot):
    with qtbot.waitSignal(panel.unload):
        panel.unload_button.click()
    panel.show_unloaded((Memory(800 * 2**20, None), Memory(500 * 2**20, None)))
    assert panel.status.text() == "Memory in use: 800 MB before, 500 MB now"
    panel.show_unloaded(None)
    assert "run is under way" in panel.status.text()


def test_report_is_copied_without_paths(panel, bundle):
    logger = logging.getLogger("napari_lsegdiff.anything")
    logger.info("Segmented 640 x 480 pixels")
    logger.warning("cannot read /home/doctor/Jane Doe 1970.png; give another")
    logger.warning("cannot read 'C:\\patients\\Jane Doe.png'")
    panel.copy_button.click()
    assert panel.status.text().startswith("Copied the report")
    text = QApplication.clipboard().text()
    for part in ("napari-lsegdiff", "torch", "PySide6", "cpu", "tiny", bundle_hash(find_bundle(bundle)), "640 x 480"):
        assert part in text
    for part in ("Jane", "doctor", "patients", bundle):
        assert part not in text
    assert "cannot read …" in text


def test_log_comes_from_both_packages_and_from_any_thread(panel, qtbot):
    logging.getLogger("lsegdiff_core.predictor").warning("from the core")
    thread = threading.Thread(target=lambda: logging.getLogger("napari_lsegdiff._worker").info("from a thread"))
    thread.start()
    thread.join()
    logging.getLogger("another").error("not ours")
    qtbot.waitUntil(lambda: "from a thread" in panel.log.toPlainText())
    assert "from the core" in panel.log.toPlainText()
    assert "not ours" not in panel.log.toPlainText()


def test_log_is_bounded_and_one_line_a_record():
    log = SessionLog(lambda: None)
    try:
        for index in range(LINES + 50):
            logging.getLogger("lsegdiff_core").info("line %d\nand more", index)
        assert len(log.lines) == LINES
        assert log.lines[-1].endswith(f"line {LINES + 49} and more")
        logging.getLogger("lsegdiff_core").debug("too much")
        assert "too much" not in log.lines[-1]
    finally:
        log.close()


def test_closing_leaves_the_loggers_as_they_were(qtbot):
    before = [(logging.getLogger(name).level, list(logging.getLogger(name).handlers)) for name in LOGGERS]
    panel = AboutPanel()
    qtbot.addWidget(panel)
    assert [list(logging.getLogger(name).handlers) for name in LOGGERS] != [handlers for _, handlers in before]
    panel.close_events()
    assert [(logging.getLogger(name).level, list(logging.getLogger(name).handlers)) for name in LOGGERS] == before


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("12 images/s, 3/4 of it, step 1 / 2", "12 images/s, 3/4 of it, step 1 / 2"),
        ("read /home/Jane Doe/1.png", "read …"),
        ("read '/home/Jane Doe/1.png'", "read …"),
        ("read file:///home/Jane.png", "read …"),
        ("read ~/Jane Doe.png", "read …"),
        ("read ../Jane Doe.png", "read …"),
        ("read frames/Jane Doe.png", "read …"),
        ("read C:\\Jane Doe.png", "read …"),
        ("read \\\\server\\Jane Doe.png", "read …"),
    ],
)
def test_log_cuts_paths_only(text, kept):
    log = SessionLog(lambda: None)
    try:
        logging.getLogger("lsegdiff_core").info(text)
        assert log.lines[-1].split(" ", 1)[1] == kept
    finally:
        log.close()
