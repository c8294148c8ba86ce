from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lsegdiff_core.bundle import Manifest, load_networks, save_bundle
from lsegdiff_core.config import (
    DenoiserConfig,
    HintEncoderConfig,
    ImageEncoderConfig,
    MaskVAEConfig,
    ModelConfig,
    SamplingConfig,
)
from lsegdiff_core.data.phantom import draw_phantom
from lsegdiff_core.models.networks import Networks
from lsegdiff_core.predictor import Predictor
from lsegdiff_core.training.config import DataConfig, OptimConfig, TrainConfig
from lsegdiff_core.training.datasets import Store, load_stores

WriteImage = Callable[..., Path]


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Give each test the same random numbers, whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture
def write_image() -> WriteImage:
    """Write a grey or colour array as an image file; folders are made, a small grey square is the default."""

    def write(path: Path, array: np.ndarray | None = None) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 10), 128, np.uint8) if array is None else array).save(path)
        return path

    return write


@pytest.fixture(scope="session")
def tiny_model() -> ModelConfig:
    """Networks for 64 x 64 pixels, as narrow as the blocks allow."""
    return ModelConfig(
        vae=MaskVAEConfig(size=64, width=16, upper_width=8),
        encoder=ImageEncoderConfig(size=64, pyramid_channels=16),
        hints=HintEncoderConfig(width=8),
        denoiser=DenoiserConfig(cond_channels=16, widths=(16, 16, 16), embedding=32),
    )


@pytest.fixture(scope="session")
def tiny_config(tiny_model: ModelConfig) -> TrainConfig:
    """A training of both stages that takes seconds."""
    return TrainConfig(
        model=tiny_model,
        data=DataConfig(phantoms=3, validation_phantoms=2),
        vae=OptimConfig(steps=6, batch=2, warmup=2, validate_every=3, log_every=2),
        denoiser=OptimConfig(steps=4, batch=2, warmup=1, validate_every=4, log_every=2),
    )


@pytest.fixture(scope="session")
def stores(tiny_config: TrainConfig) -> tuple[Store, Store]:
    """Training and validation phantoms, 80 x 80 pixels."""
    return load_stores(tiny_config.data, Path("unused"), Path("unused"), 80)


@pytest.fixture
def generator() -> torch.Generator:
    """A seeded CPU generator."""
    return torch.Generator().manual_seed(0)


@pytest.fixture
def awaken() -> Callable[[torch.nn.Module], torch.nn.Module]:
    """Fill a network's zero-initialised weights, which would hide whatever stands before them."""

    def fill(model: torch.nn.Module) -> torch.nn.Module:
        torch.manual_seed(3)
        for parameter in model.parameters():
            if parameter.ndim > 1 and not parameter.detach().any():
                torch.nn.init.normal_(parameter, std=0.1)
        return model

    return fill


@pytest.fixture(scope="session")
def tiny_bundle(tiny_model: ModelConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the tiny model with random weights; its masks are arbitrary, not empty."""
    folder = tmp_path_factory.mktemp("bundle") / "tiny"
    torch.manual_seed(5)
    networks = Networks.build(tiny_model, latent_scale=0.8)
    for network in networks.components.values():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.15)
    manifest = Manifest(
        name="tiny",
        description="random weights for tests",
        licence="none needed",
        classes=("blob",),
        model=tiny_model,
        latent_scale=0.8,
        sampling=SamplingConfig(steps=2),
        threshold=0.5,
        training={"validation": {"score": 0.0}},
    )
    image = draw_phantom(2, 48, 64).image
    save_bundle(folder, manifest, networks)
    predictor = Predictor(str(folder), device="cpu")
    predictor.set_image(image)
    save_bundle(folder, manifest, networks, replay=(image, predictor.predict().probability))
    return folder


@pytest.fixture(scope="session")
def direct_bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle as the control without diffusion."""
    folder = tmp_path_factory.mktemp("bundle") / "direct"
    manifest, networks = load_networks(tiny_bundle)
    save_bundle(folder, replace(manifest, model=replace(manifest.model, method="direct")), networks)
    return folder


@pytest.fixture
def predictor(tiny_bundle: Path) -> Predictor:
    """The tiny bundle on the CPU."""
    return Predictor(str(tiny_bundle), device="cpu")


@pytest.fixture
def direct(direct_bundle: Path) -> Predictor:
    """The control without diffusion on the CPU."""
    return Predictor(str(direct_bundle), device="cpu")


@pytest.fixture
def pairs(tmp_path: Path, write_image: WriteImage) -> Path:
    """Three phantoms with masks, as a plain folder."""
    root = tmp_path / "data"
    for seed in range(3):
        frame = draw_phantom(seed, 60, 80)
        write_image(root / "images" / f"f{seed}.png", frame.image)
        write_image(root / "masks" / f"f{seed}.png", frame.mask)
    return root


class Counter:
    """Counts the calls of a network's forward."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.calls = 0
        network.register_forward_pre_hook(self._count)

    def _count(self, *_: object) -> None:
        self.calls += 1


@pytest.fixture
def count() -> Callable[[torch.nn.Module], Counter]:
    """Count the calls of a network from now on."""
    return Counter
