"""The part of the dock that says what to segment, and with what."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TypeGuard

from napari.components import ViewerModel
from napari.layers import Image
from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QPaintEvent
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QLabel,
    QSpinBox,
    QStyle,
    QStyleOptionComboBox,
    QStylePainter,
    QWidget,
)

from lsegdiff_core.bundle import Manifest, available_bundles, bundle_hash, find_bundle, read_manifest
from lsegdiff_core.config import MAX_STEPS, SAMPLER_NAMES, SamplingConfig
from lsegdiff_core.errors import LSegDiffError
from napari_lsegdiff._controls import ShareSlider, Slider, row
from napari_lsegdiff._overlays import is_overlay
from napari_lsegdiff._settings import UNSET, Settings

MAX_SEEDS = 16
OTHER = "Other folder…"


class ImageChoice(QComboBox):
    """The viewer's image layers in the order in which they came, whichever of them lies above the others.

    It holds the layers themselves, so that a rename changes nothing but the text.
    """

    chosen = Signal()

    def __init__(self, viewer: ViewerModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._layers: list[Image] = []
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(12)
        self.setPlaceholderText("No image yet")
        self.setToolTip("The image to segment; of a stack, the frame on the canvas")
        self.currentIndexChanged.connect(lambda index: self.chosen.emit())
        events = viewer.layers.events
        events.inserted.connect(self._on_inserted)
        events.removed.connect(self._on_listed)
        events.renamed.connect(self._on_listed)
        self._list(next((layer for layer in reversed(viewer.layers) if _is_picture(layer)), None))

    def close_events(self) -> None:
        """Stop following the viewer."""
        events = self._viewer.layers.events
        events.inserted.disconnect(self._on_inserted)
        events.removed.disconnect(self._on_listed)
        events.renamed.disconnect(self._on_listed)

    @property
    def layer(self) -> Image | None:
        """The chosen layer, None when there is no image."""
        index = self.currentIndex()
        return self._layers[index] if 0 <= index < len(self._layers) else None

    @layer.setter
    def layer(self, layer: Image) -> None:
        if layer in self._layers:
            self.setCurrentIndex(self._layers.index(layer))

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        """Draw the box; a long name loses its middle, since names often differ in their ends only."""
        painter, option = QStylePainter(self), QStyleOptionComboBox()
        self.initStyleOption(option)
        painter.drawComplexControl(QStyle.ComplexControl.CC_ComboBox, option)
        field = self.style().subControlRect(
            QStyle.ComplexControl.CC_ComboBox, option, QStyle.SubControl.SC_ComboBoxEditField, self
        )
        text = self.currentText() or self.placeholderText()
        option.currentText = self.fontMetrics().elidedText(text, Qt.TextElideMode.ElideMiddle, field.width())
        painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)

    def _on_inserted(self, event: object) -> None:
        # whoever opens an image wants to work on it
        new = getattr(event, "value", None)
        self._list(new if _is_picture(new) else self.layer)

    def _on_listed(self, event: object) -> None:
        self._list(self.layer)

    def _list(self, current: Image | None) -> None:
        before = self.layer
        blocked = self.blockSignals(True)
        self.clear()
        pictures = [layer for layer in self._viewer.layers if _is_picture(layer)]
        known = [layer for layer in self._layers if layer in pictures]
        self._layers = known + [layer for layer in pictures if layer not in known]
        for index, layer in enumerate(self._layers):
            self.addItem(layer.name)
            self.setItemData(index, layer.name, Qt.ItemDataRole.ToolTipRole)  # long names are cut
        if current in self._layers:
            self.setCurrentIndex(self._layers.index(current))
        self.blockSignals(blocked)
        if self.layer is not before:
            self.chosen.emit()


def _is_picture(layer: object) -> TypeGuard[Image]:
    return isinstance(layer, Image) and not is_overlay(layer)


class ModelChoice(QWidget):
    """Image, bundle, device and sampling, in one form; ``settings`` go before what a bundle suggests.

    ``chosen`` carries the manifest of a newly chosen bundle, ``failed`` an error of a folder that is none, ``said`` a
    sentence.

    Attributes
    ----------
    suggested
        The sampling that settings and bundle suggest.
    """

    chosen = Signal(object)
    failed = Signal(object)
    said = Signal(str)

    def __init__(self, images: ImageChoice, settings: Settings = UNSET, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._settings = settings
        self.suggested = settings.sampling(SamplingConfig())
        self.model = QComboBox()
        self.model.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.model.setMinimumContentsLength(12)
        self.licence = QLabel()
        self.licence.setWordWrap(True)
        self.licence.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        # napari's own style sheet sets the size of every text, so a font alone would not do
        self.licence.setStyleSheet("font-size: 8pt;")
        self.device = QComboBox()
        self.device.addItem("auto")
        self.show_device(settings.device)
        self.steps = Slider(1, MAX_STEPS)
        self.sampler = QComboBox()
        self.sampler.addItems(SAMPLER_NAMES)
        self.seeds = QSpinBox()
        self.seeds.setRange(1, MAX_SEEDS)
        self.flip = QCheckBox("Mirror")
        self.zoom = QCheckBox("Zoom")
        self.flip.setToolTip(
            "Seeds take turns at four views of the image, as it is and mirrored: steadier on unfamiliar images, and "
            "samples differ where the image leaves a doubt. With one seed it changes nothing; Re-diffuse does "
            "without, to answer at once"
        )
        self.zoom.setToolTip(
            "A second pass over a crop around the first mask, starting from it; for small lesions, twice the time"
        )

        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("Image", images)
        for text, widget, tip in (
            ("Model", self.model, "The trained model; a folder with bundle.json can be chosen too"),
            (
                "Device",
                self.device,
                "Where the model runs; 'auto' takes a GPU; all are listed after the first run",
            ),
            ("Steps", self.steps, "Sampler steps, 1 to 50; more take longer"),
            ("Sampler", self.sampler, "How noise becomes a mask; heun evaluates the network twice a step"),
            ("Seeds", self.seeds, "Number of samples, which the time grows with; the probability is their mean"),
        ):
            form.addRow(text, widget)
            widget.setToolTip(tip)
            form.labelForField(widget).setToolTip(tip)
        form.addRow("Passes", row(self.flip, self.zoom))
        form.insertRow(2, self.licence)

        self._folder: str | None = None
        for name in available_bundles():
            self.model.addItem(name, name)
        self.model.addItem(OTHER)
        # `activated` is the user's hand only, also when the same entry is chosen again
        self.model.activated.connect(self._on_activated)
        if self.model.count() > 1:
            self.choose(str(self.model.itemData(0)))
        else:
            self.model.setCurrentIndex(-1)
            self.model.setPlaceholderText("Choose a model…")
            self._describe(None)
            self.show_sampling(self.suggested)

    @property
    def bundle(self) -> str | None:
        """Name or folder of the chosen bundle."""
        return self._folder

    @property
    def bundles(self) -> list[str]:
        """Names and folders of the bundles that can be chosen."""
        return [str(self.model.itemData(index)) for index in range(self.model.count() - 1)]  # the last opens a dialog

    @property
    def sampling(self) -> SamplingConfig:
        """Steps, sampler, seeds 0 to n - 1, and the passes."""
        return SamplingConfig(
            self.steps.value(),
            self.sampler.currentText(),
            tuple(range(self.seeds.value())),
            self.flip.isChecked(),
            self.zoom.isChecked(),
        )

    def choose(self, bundle: str) -> None:
        """Choose a bundle by name or folder and show what it suggests; a folder that is none changes nothing."""
        try:
            manifest = self.offer(bundle)
        except LSegDiffError as error:
            self._select(self._folder)
            self.failed.emit(error)
            return
        self._folder = bundle
        self._select(bundle)
        self._describe(manifest)
        self.suggested = self._settings.sampling(manifest.sampling)
        self.show_sampling(self.suggested)
        self.chosen.emit(manifest)

    def offer(self, bundle: str) -> Manifest:
        """List a bundle, by name or folder, and return what it says of itself.

        Raises
        ------
        LSegDiffError
            If it is none.
        """
        manifest = read_manifest(find_bundle(bundle))
        if self.model.findData(bundle) < 0:
            self.model.insertItem(self.model.count() - 1, Path(bundle).name, bundle)
            self.model.setItemData(self.model.findData(bundle), bundle, Qt.ItemDataRole.ToolTipRole)
        return manifest

    def listed(self, sha256: str) -> str | None:
        """Return the listed bundle with this hash; None if there is none."""
        for bundle in self.bundles:
            try:
                if bundle_hash(find_bundle(bundle)) == sha256:
                    return bundle
            except LSegDiffError:  # its folder is gone by now
                continue
        return None

    def compare(self, name: str, sha256: str) -> None:
        """Say so if a mask was made with another bundle than the chosen one, which stays: new masks get it."""
        if self.listed(sha256) != self._folder:
            self.said.emit(f"This mask was made with {name} ({sha256[:8]}…), not with the chosen model")

    def show_device(self, name: str) -> None:
        """Choose a device, listed or not: which ones there are is known only when torch is loaded."""
        if self.device.findText(name) < 0:
            self.device.addItem(name)
        self.device.setCurrentText(name)

    def show_devices(self, names: list[str]) -> None:
        """List the machine's devices, keeping the choice."""
        current = self.device.currentText()
        self.device.clear()
        self.device.addItems(["auto", *names])
        self.device.setCurrentText(current)

    def _on_activated(self, index: int) -> None:
        bundle = self.model.itemData(index)
        if bundle is None:
            bundle = QFileDialog.getExistingDirectory(self, "Folder with bundle.json")
        if bundle:
            self.choose(str(bundle))
        else:
            self._select(self._folder)

    def _select(self, bundle: str | None) -> None:
        self.model.setCurrentIndex(self.model.findData(bundle) if bundle is not None else -1)

    def _describe(self, manifest: Manifest | None) -> None:
        licence = "" if manifest is None else manifest.licence.strip().rstrip(".")
        warning = "Not a medical device"
        if warning.lower() in licence.lower():
            self.licence.setText(licence)
        else:
            self.licence.setText(f"{licence}. {warning}" if licence else warning)
        self.licence.setToolTip("" if manifest is None else manifest.description)

    def show_sampling(self, sampling: SamplingConfig) -> None:
        """Show how a mask is or was sampled."""
        self.steps.setValue(sampling.steps)
        self.sampler.setCurrentText(sampling.sampler)
        self.seeds.setValue(min(len(sampling.seeds), MAX_SEEDS))
        self.flip.setChecked(sampling.flip)
        self.zoom.setChecked(sampling.zoom)


class SamplingControls:
    """All that the controls say of the sampling: those of the model, and the strength of a re-diffusion.

    Attributes
    ----------
    own
        The user's own, while the controls show how a saved mask was made; None otherwise.
    """

    def __init__(self, model: ModelChoice, strength: ShareSlider) -> None:
        self.model = model
        self._strength = strength
        self.own: SamplingConfig | None = None

    @property
    def shown(self) -> SamplingConfig:
        """What a re-diffusion of a mask would use; a first run starts at strength 1 whatever the control says."""
        return replace(self.model.sampling, strength=round(self._strength.value(), 2))

    def show(self, sampling: SamplingConfig) -> None:
        """Show how a mask was sampled."""
        self.model.show_sampling(sampling)
        self._strength.setValue(sampling.strength)

    def lend(self, sampling: SamplingConfig) -> None:
        """Show how a saved mask was sampled, until `show_own`."""
        self.own = self.own or self.shown
        self.show(sampling)

    def show_own(self) -> None:
        """Show the user's own settings again."""
        if self.own is not None:
            self.show(self.own)
            self.own = None

    def end_loan(self) -> None:
        """Take what is shown of the model as the user's own: another model was chosen, and it suggests something."""
        if self.own is not None:
            self._strength.setValue(self.own.strength)
            self.own = None
