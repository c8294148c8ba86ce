from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from time import sleep

import numpy as np
import pytest
import torch
from napari.components import ViewerModel
from napari.layers import Image, Labels
from qtpy.QtGui import QOffscreenSurface, QOpenGLContext

from lsegdiff_core.bundle import Manifest, save_bundle
from lsegdiff_core.config import (
    DenoiserConfig,
    ImageEncoderConfig,
    MaskVAEConfig,
    ModelConfig,
    MorphologyConfig,
    SamplingConfig,
)
from lsegdiff_core.data.geometry import Geometry
from lsegdiff_core.models.networks import Networks
from lsegdiff_core.prediction import Prediction
from lsegdiff_core.predictor import Predictor
from napari_lsegdiff._layers import MaskLog
from napari_lsegdiff._session import Session
from napari_lsegdiff._widget import SegmentationDock

SIZE = 64


@pytest.fixture(autouse=True)
def journals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the tests' journals out of the user's own folder, whose crashed sessions would be offered."""
    folder = tmp_path / "journals"
    monkeypatch.setattr("napari_lsegdiff._widget.default_folder", lambda: folder)
    return folder


@pytest.fixture(autouse=True)
def no_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the tests from the dock's last state of whoever runs them; returns where a state would stand."""
    path = tmp_path / "state" / "dock.json"
    monkeypatch.setattr("napari_lsegdiff._state.state_file", lambda: path)
    return path


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a tiny model with random weights."""
    folder = tmp_path_factory.mktemp("bundle") / "tiny"
    model = ModelConfig(
        vae=MaskVAEConfig(size=SIZE, width=16, upper_width=8),
        encoder=ImageEncoderConfig(size=SIZE, pyramid_channels=16),
        denoiser=DenoiserConfig(cond_channels=16, widths=(16, 16, 16), embedding=32),
    )
    torch.manual_seed(0)
    manifest = Manifest("tiny", "for tests", "BSD-3-Clause", ("polyp",), model, 1.0, SamplingConfig(steps=3), 0.5, {})
    save_bundle(folder, manifest, Networks.build(model))
    return str(folder)


def cone(centre: tuple[float, float] = (0.5, 0.5)) -> np.ndarray:
    """A probability that falls from 1 at the centre: every threshold gives a disc of another size."""
    y, x = (np.mgrid[:SIZE, :SIZE] + 0.5) / SIZE
    return np.clip(1 - 1.5 * np.hypot(y - centre[0], x - centre[1]), 0, 1).astype(np.float32)


class Calls:
    """Counts what the networks are asked; ``delay`` seconds make a step of the tiny model as slow as a real one."""

    encode = 0
    denoise = 0
    delay = 0.0


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """The networks run, only the decoder's picture is exchanged: random weights would give an arbitrary mask."""
    counted = Calls()
    encode, denoise, decode = Predictor.encode, Predictor.denoise, Predictor.decode

    def counted_encode(self: Predictor, *args: object) -> object:
        counted.encode += 1
        return encode(self, *args)

    def counted_denoise(self: Predictor, *args: object) -> object:
        counted.denoise += 1
        sleep(counted.delay)
        return denoise(self, *args)

    monkeypatch.setattr(Predictor, "encode", counted_encode)
    monkeypatch.setattr(Predictor, "denoise", counted_denoise)
    monkeypatch.setattr(Predictor, "decode", lambda self, z: 0 * decode(self, z) + cone())
    return counted


@pytest.fixture
def predict() -> Callable[..., Prediction]:
    """Make a prediction of a cone without any network."""

    def make(shape: tuple[int, int], centre: tuple[float, float] = (0.5, 0.5)) -> Prediction:
        geometry = Geometry(shape, (0, 0, *shape))
        square = cone(centre)
        return Prediction(
            geometry.from_square(square),
            geometry.from_square(square),
            square[None],
            geometry,
            MorphologyConfig(),
            {"image": {}},
        )

    return make


@pytest.fixture
def session() -> Session:
    """A session on a viewer without a window."""
    return Session(ViewerModel())


@pytest.fixture
def log() -> MaskLog:
    """An empty 20 x 30 mask with its log."""
    layer = Labels(np.zeros((20, 30), np.uint8))
    return MaskLog(layer, lambda: ())


@pytest.fixture
def add_image(session: Session) -> Callable[..., Image]:
    """Add an image layer to the session's viewer."""

    def add(data: object, **kwargs: object) -> Image:
        return session._viewer.add_image(data, **kwargs)

    return add


@pytest.fixture(autouse=True)
def no_context_of_a_closed_viewer(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let no OpenGL context of a closed viewer stay current: Qt asks it at the end of the next window, and crashes.

    Any napari viewer leaves one behind, with or without this plugin.
    """
    yield
    if "make_napari_viewer" in request.fixturenames:
        surface, context = QOffscreenSurface(), QOpenGLContext()
        surface.create()
        if context.create() and context.makeCurrent(surface):
            context.doneCurrent()


@pytest.fixture
def viewer(make_napari_viewer: Callable[..., object]) -> object:
    """A real viewer."""
    return make_napari_viewer()


@pytest.fixture
def dock(viewer: object, bundle: str, calls: Calls) -> SegmentationDock:
    """The dock in a real viewer, with the tiny model chosen."""
    widget = SegmentationDock(viewer)
    viewer.window.add_dock_widget(widget, name="LSegDiff")
    widget.choices.choose(bundle)
    return widget


Run = Callable[..., bool]


@pytest.fixture
def run(dock: SegmentationDock, qtbot: object) -> Run:
    """Press Run and wait for the end; returns whether a mask came."""

    def press() -> bool:
        with qtbot.waitSignal(dock.finished, timeout=20_000) as signal:
            dock.panel.button.click()
        return bool(signal.args[0])

    return press


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Keep the tests from the settings of whoever runs them; returns where settings would stand."""
    path = tmp_path / "config" / "settings.json"
    monkeypatch.setattr("napari_lsegdiff._settings.settings_file", lambda: path)
    return path
