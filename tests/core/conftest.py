from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lsegdiff_core.config import (
    DataConfig,
    DenoiserConfig,
    ImageEncoderConfig,
    MaskVAEConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
)
from lsegdiff_core.training.datasets import Store, load_stores

WriteImage = Callable[..., Path]


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
