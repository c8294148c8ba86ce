"""From a finished training to a bundle."""

from __future__ import annotations

from pathlib import Path

from lsegdiff_core.bundle import Manifest, save_bundle
from lsegdiff_core.config import SamplingConfig, to_dict
from lsegdiff_core.data.phantom import draw_phantom
from lsegdiff_core.predictor import Predictor
from lsegdiff_core.training.config import TrainConfig
from lsegdiff_core.training.run import collect

REPLAY_SEED = 2


def release(
    config: TrainConfig, out: Path, folder: Path, weights: str = "best", min_confidence: float = 0.0
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
    """
    networks, measures = collect(config, out, weights)
    manifest = Manifest(
        name=config.name,
        description=config.description,
        licence=config.licence,
        classes=config.classes,
        model=config.model,
        latent_scale=networks.latent_scale,
        sampling=SamplingConfig(steps=1) if config.model.method == "direct" else SamplingConfig(),
        threshold=0.5,
        min_confidence=min_confidence,
        training={"config": to_dict(config), "validation": {key: round(value, 4) for key, value in measures.items()}},
    )
    save_bundle(folder, manifest, networks)
    image = draw_phantom(REPLAY_SEED, 192, 256).image
    predictor = Predictor(str(folder), device="cpu")
    # the predictor has read the weights as they are stored, in half precision
    predictor.set_image(image)
    return save_bundle(folder, manifest, networks, replay=(image, predictor.predict().probability))
