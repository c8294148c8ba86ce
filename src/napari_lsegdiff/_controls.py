"""The part of the dock that refines a mask."""

from __future__ import annotations

from time import monotonic

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import (
    QCheckBox,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QPushButton,
    QScrollArea,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)
from superqt import QDoubleSlider, QLabeledDoubleSlider, QLabeledSlider

from lsegdiff_core.config import MorphologyConfig

# Changes by wheel or key that follow one another within this many seconds are one undo item.
PAUSE = 0.7


class Slider(QLabeledSlider):
    """Whole numbers from ``low`` to ``high``, with the value beside it; keys move it, however it got the focus."""

    def __init__(self, low: int, high: int) -> None:
        super().__init__(Qt.Orientation.Horizontal)
        self.setFocusProxy(self._slider)  # what is around it is a slider to Qt, too, whose value nobody sees
        self.setRange(low, high)


class _KeyedSlider(QDoubleSlider):
    """Moves with the keys; superqt's leaves them to Qt, which moves a whole number of its own that nobody sees."""

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802
        """Go one step, one page or to an end, as Qt's sliders do."""
        keys, step, page = Qt.Key, self.singleStep(), self.pageStep()
        value: float = self.value()
        moved = {
            keys.Key_Left: value - step,
            keys.Key_Down: value - step,
            keys.Key_Right: value + step,
            keys.Key_Up: value + step,
            keys.Key_PageDown: value - page,
            keys.Key_PageUp: value + page,
            keys.Key_Home: self.minimum(),
            keys.Key_End: self.maximum(),
        }
        wanted = moved.get(Qt.Key(event.key()))
        if wanted is None:
            super().keyPressEvent(event)
        else:
            self.setValue(wanted)


class ShareSlider(QLabeledDoubleSlider):
    """Numbers with two decimals from ``low`` to ``high``, as `Slider`; a key goes ``step`` far."""

    _slider_class = _KeyedSlider

    def __init__(self, low: float, high: float, step: float) -> None:
        super().__init__(Qt.Orientation.Horizontal)
        self.setFocusProxy(self._slider)
        self.setRange(low, high)
        self.setSingleStep(step)  # type: ignore[arg-type]
        self.setDecimals(2)


class RefineControls(QGroupBox):
    """Threshold and morphology; emits ``changed`` on every tick.

    Attributes
    ----------
    gesture
        Stays the same while one slider is being dragged, so that the drag can become one undo item.
    default
        What settings and model suggest, and Reset brings back.
    own
        What the user's hand or a new default set last; the controls may show how another mask was refined.
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("Refine", parent)
        self.gesture = 0
        self._last = 0.0
        self.default = self.own = MorphologyConfig()

        self.threshold = ShareSlider(0.01, 0.99, 0.01)
        self.confidence = ShareSlider(0.0, 0.99, 0.01)
        self.opening = Slider(0, 30)
        self.closing = Slider(0, 30)
        self.smooth = Slider(0, 20)
        self.min_area = QSpinBox()
        self.min_area.setRange(0, 10_000_000)
        self.min_area.setSingleStep(100)
        self.min_area.setGroupSeparatorShown(True)
        self.min_area.setSuffix(" px")
        self.fill_holes = QCheckBox("Fill holes")
        self.keep_largest = QCheckBox("Keep largest")
        self.reset_button = QPushButton("Reset")

        self._sliders = (self.threshold, self.confidence, self.opening, self.closing, self.smooth)

        form = QFormLayout(self)
        for text, widget, tip in (
            ("Threshold", self.threshold, "A pixel belongs to the mask where its probability is at least this"),
            (
                "Certainty",
                self.confidence,
                "Removes pieces that the model is less sure of than this; raise it against false alarms",
            ),
            ("Opening (px)", self.opening, "Removes parts thinner than twice this radius, in pixels of the image"),
            ("Closing (px)", self.closing, "Closes gaps narrower than twice this radius, in pixels of the image"),
            ("Smooth (px)", self.smooth, "Rounds the outline; standard deviation in pixels of the image"),
            ("Min. area", self.min_area, "Removes pieces with fewer pixels than this"),
        ):
            form.addRow(text, widget)
            widget.setToolTip(tip)
            form.labelForField(widget).setToolTip(tip)
            widget.valueChanged.connect(self._on_changed)
        form.addRow(row(self.fill_holes, self.keep_largest))
        form.addRow(self.reset_button)
        self.fill_holes.setToolTip("Fills holes in the mask")
        self.keep_largest.setToolTip("Keeps only the largest piece of the mask")
        self.reset_button.setToolTip("Back to what your settings say, and to what the model suggests for the rest")
        for slider in self._sliders:
            slider.sliderPressed.connect(self._new_gesture)
            slider.sliderReleased.connect(self._new_gesture)
        for box in (self.fill_holes, self.keep_largest):
            box.toggled.connect(self._on_toggled)
        self.reset_button.clicked.connect(self._on_reset)
        self.show_morphology(self.default)

    @property
    def morphology(self) -> MorphologyConfig:
        """The refinement that the controls show."""
        return MorphologyConfig(
            threshold=round(self.threshold.value(), 2),
            opening=float(self.opening.value()),
            closing=float(self.closing.value()),
            fill_holes=self.fill_holes.isChecked(),
            min_area=self.min_area.value(),
            smooth=float(self.smooth.value()),
            keep_largest=self.keep_largest.isChecked(),
            min_confidence=round(self.confidence.value(), 2),
        )

    def set_default(self, morphology: MorphologyConfig) -> None:
        """Show what the model suggests, or the user's settings say, and come back to it on Reset."""
        self.default = morphology
        self.set_own(morphology)

    def set_own(self, morphology: MorphologyConfig) -> None:
        """Show how the user wants new masks refined."""
        self.show_morphology(morphology)
        self.own = self.morphology

    def show_morphology(self, morphology: MorphologyConfig) -> None:
        """Move the controls without telling anyone, each to the end of its range at most."""
        blocked = self.blockSignals(True)
        self.threshold.setValue(morphology.threshold)
        self.confidence.setValue(morphology.min_confidence)
        self.opening.setValue(min(round(morphology.opening), self.opening.maximum()))
        self.closing.setValue(min(round(morphology.closing), self.closing.maximum()))
        self.fill_holes.setChecked(morphology.fill_holes)
        self.min_area.setValue(min(morphology.min_area, self.min_area.maximum()))
        self.smooth.setValue(min(round(morphology.smooth), self.smooth.maximum()))
        self.keep_largest.setChecked(morphology.keep_largest)
        self.blockSignals(blocked)

    def _new_gesture(self) -> None:
        self.gesture += 1
        self._last = monotonic()

    def _on_changed(self) -> None:
        dragging = any(s.isSliderDown() for s in self._sliders)
        if not dragging and monotonic() - self._last > PAUSE:
            self.gesture += 1
        self._last = monotonic()
        self._tell()

    def _on_toggled(self) -> None:
        self.gesture += 1
        self._tell()

    def _on_reset(self) -> None:
        self.gesture += 1
        self.show_morphology(self.default)
        self._tell()

    def _tell(self) -> None:
        if not self.signalsBlocked():  # else they show a mask
            self.own = self.morphology
            self.changed.emit()


def row(*widgets: QWidget) -> QHBoxLayout:
    """Return the widgets side by side."""
    layout = QHBoxLayout()
    for widget in widgets:
        layout.addWidget(widget)
    return layout


class Scrolled(QScrollArea):
    """Widgets below each other; a low screen gets a scroll bar instead of squeezed controls."""

    def __init__(self, *widgets: QWidget) -> None:
        super().__init__()
        self._content = QWidget()
        column = QVBoxLayout(self._content)
        column.setContentsMargins(4, 4, 4, 4)
        for widget in widgets:
            column.addWidget(widget)
        if len(widgets) > 1:
            column.addStretch(1)
        self.setWidgetResizable(True)
        self.setFrameShape(QScrollArea.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setWidget(self._content)

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        """Return a size at which no widget is cut at the side, scroll bar or not."""
        width = self._content.minimumSizeHint().width() + self.verticalScrollBar().sizeHint().width()
        return QSize(width, super().minimumSizeHint().height())
