"""From a finished training to a bundle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lsegdiff_core.bundle import Manifest, bundle_hash, load_networks, save_bundle
from lsegdiff_core.config import ONE_A_VIEW, SamplingConfig, to_dict
from lsegdiff_core.data.phantom import draw_phantom
from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.models.networks import Networks
from lsegdiff_core.predictor import Predictor
from lsegdiff_core.training.config import TrainConfig
from lsegdiff_core.training.run import collect

REPLAY_SEED = 2


@dataclass(frozen=True)
class Blend:
    """Weights on the straight line between a bundle and the training that started from it.

    They hold up better on images unlike those of the training (WiSE-FT, Wortsman et al. 2022, eq. 1).

    Attributes
    ----------
    init
        The bundle's folder.
    share
        Of the trained weights, in [0, 1]; chosen on validation images.
    """

    init: Path
    share: float

    def of(self, trained: Networks) -> Networks:
        """Return the blended networks.

        Raises
        ------
        LSegDiffError
            If the training changed the mask VAE: latents of two VAEs do not mean the same.
        """
        _, start = load_networks(self.init)
        if trained.latent_scale != start.latent_scale:
            raise LSegDiffError("blend: the training changed the mask VAE; keep it with vae.steps: 0")
        for name, network in trained.components.items():
            if name != "vae":
                before = start.components[name].state_dict()
                state = {key: torch.lerp(before[key], value, self.share) for key, value in _floats(network)}
                network.load_state_dict(state, strict=False)
        return trained


def _floats(network: nn.Module) -> list[tuple[str, Tensor]]:
    """Return the state of a network without its counters."""
    return [(key, value) for key, value in network.state_dict().items() if value.is_floating_point()]


def release(
    config: TrainConfig,
    out: Path,
    folder: Path,
    weights: str = "best",
    min_confidence: float = 0.0,
    blend: Blend | None = None,
) -> Manifest:
    """Write the weights of the training in ``out`` as a bundle, with a test image and its result.

    Parameters
    ----------
    config
        The training's config.
    out
        Its folder.
    folder
        The bundle's folder.
    weights
        ``best`` or ``last``; see `lsegdiff_core.training.run.collect`.
    min_confidence
        The bundle's default of `lsegdiff_core.config.MorphologyConfig.min_confidence`, chosen on validation images.
    blend
        Take weights between those and what the training started from.
    """
    networks, measures = collect(config, out, weights)
    scores = {key: round(value, 4) for key, value in measures.items()}
    training: dict[str, Any] = {"config": to_dict(config), "validation": scores}
    if blend is not None:
        networks = blend.of(networks)
        # the validation was measured before
        training["blend"] = {"init": bundle_hash(blend.init), "share": blend.share}
    manifest = Manifest(
        name=config.name,
        description=config.description,
        licence=config.licence,
        classes=config.classes,
        model=config.model,
        latent_scale=networks.latent_scale,
        # the training mirrors along both axes: each view is as good as the image
        sampling=SamplingConfig(
            steps=1 if config.model.method == "direct" else SamplingConfig.steps,
            seeds=ONE_A_VIEW,
            flip=True,
        ),
        threshold=0.5,
        min_confidence=min_confidence,
        training=training,
    )
    save_bundle(folder, manifest, networks)
    image = draw_phantom(REPLAY_SEED, 192, 256).image
    predictor = Predictor(str(folder), device="cpu")
    # the predictor has read the weights as they are stored, in half precision
    predictor.set_image(image)
    return save_bundle(folder, manifest, networks, replay=(image, predictor.predict().probability))
