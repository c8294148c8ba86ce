"""The command line: ``lsegdiff``. Heavy libraries are imported by the command that needs them."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lsegdiff_core import __version__
from lsegdiff_core.bundle import available_bundles, find_bundle, read_manifest
from lsegdiff_core.cli_bench import bench
from lsegdiff_core.cli_options import (
    Bundle,
    Data,
    Device,
    Flip,
    Json,
    Sampler,
    Seeds,
    Split,
    Zoom,
    fractions,
    numbers,
    sampling_of,
    write_json,
)
from lsegdiff_core.config import MorphologyConfig
from lsegdiff_core.errors import LSegDiffError

if TYPE_CHECKING:
    from lsegdiff_core.training.loop import Report


def _licences() -> str:
    lines = []
    for name in available_bundles():
        with contextlib.suppress(LSegDiffError):  # the command that reads the bundle will say what is wrong with it
            lines.append(f"{name}: {read_manifest(find_bundle(name)).licence}")
    return "Bundled models — " + "; ".join(lines) if lines else "No model is bundled."


app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Latent diffusion segmentation of medical images; a model of colon polyps is bundled.\n\n"
        "Start with 'lsegdiff demo', then 'lsegdiff predict IMAGE'. Check an installation with 'lsegdiff doctor'.\n\n"
        f"{_licences()}\n\nNot a medical device."
    ),
)
app.add_typer(bench, name="bench")


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


@app.command()
def demo(
    image: Annotated[Path | None, typer.Option(help="Your own image; the built-in synthetic one if left out.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the mask and the overlay.")] = Path("demo"),
    bundle: Bundle = "polyp",
    device: Device = "auto",
) -> None:
    """Segment the sample image, or your own."""
    from lsegdiff_core.demo import run_demo
    from lsegdiff_core.predictor import Predictor

    files, share, score = run_demo(Predictor(bundle, device), out, image)
    for path in files:
        print(f"wrote     {path}")
    print(f"mask      {share:.1%} of the image" if share else "mask      empty: nothing was found")
    if score is not None:
        print(f"Dice      {score:.3f} against the phantom's truth")


@app.command()
def predict(
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of images.")],
    out: Annotated[Path, typer.Option(help="Folder for the masks.")] = Path("masks"),
    bundle: Bundle = "polyp",
    device: Device = "auto",
    steps: Annotated[int | None, typer.Option(help="Sampler steps, 1 to 50; the bundle's default if left out.")] = None,
    sampler: Sampler = None,
    seeds: Seeds = None,
    flip: Flip = None,
    zoom: Zoom = None,
    format: Annotated[
        str, typer.Option(help="png (0 and 255), indexed-png (object ids) or coco (RLE in JSON).")
    ] = "png",
    threshold: Annotated[float | None, typer.Option(help="Foreground from this probability on.")] = None,
    min_confidence: Annotated[
        float | None, typer.Option(help="Certainty: remove pieces that the model is less sure of than this.")
    ] = None,
    opening: Annotated[float, typer.Option(help="Radius of the opening, pixels of the image.")] = 0.0,
    closing: Annotated[float, typer.Option(help="Radius of the closing, pixels of the image.")] = 0.0,
    smooth: Annotated[float, typer.Option(help="Sigma of the contour's smoothing, pixels of the image.")] = 0.0,
    min_area: Annotated[int, typer.Option(help="Min. area: remove pieces of fewer pixels.")] = 0,
    fill_holes: Annotated[bool, typer.Option(help="Fill holes.")] = True,
    keep_largest: Annotated[bool, typer.Option(help="Keep the largest piece only.")] = False,
) -> None:
    """Segment images and write their masks.

    Each mask comes with a sidecar of its provenance. A file that cannot be read is said and left out; the exit code
    is 2 then. Of a stack, the first frame is segmented.

    Example: lsegdiff predict frames/ --out masks/ --steps 4 --seeds 8 --smooth 2
    """
    from lsegdiff_core.data.images import read_image
    from lsegdiff_core.data.readers import list_images
    from lsegdiff_core.export import EXPORTERS, SUFFIXES, export_labels
    from lsegdiff_core.predictor import Predictor

    if format not in EXPORTERS:
        raise LSegDiffError(f"--format: unknown name '{format}'; choose one of {', '.join(EXPORTERS)}")
    files = [path for given in images for path in (list_images(given) if given.is_dir() else [given])]
    stems = [path.stem for path in files]
    twice = next((stem for stem in stems if stems.count(stem) > 1), None)
    if twice is not None:
        raise LSegDiffError(f"images: two files are named '{twice}', their masks would overwrite each other; run twice")
    targets = [out / f"{path.stem}{SUFFIXES[format]}" for path in files]
    inputs = {path.resolve() for path in files}
    clash = next((target for target in targets if target.resolve() in inputs), None)
    if clash is not None:
        raise LSegDiffError(f"{clash}: the mask would overwrite this image; give another folder with --out")
    predictor = Predictor(bundle, device)
    sampling = sampling_of(predictor.manifest.sampling, steps, sampler, seeds, flip, zoom)
    suggested = predictor.manifest.morphology
    morphology = MorphologyConfig(
        threshold=suggested.threshold if threshold is None else threshold,
        min_confidence=suggested.min_confidence if min_confidence is None else min_confidence,
        opening=opening,
        closing=closing,
        smooth=smooth,
        min_area=min_area,
        fill_holes=fill_holes,
        keep_largest=keep_largest,
    )
    failures = []
    for index, (path, target) in enumerate(zip(files, targets, strict=True), start=1):
        try:
            predictor.set_image(read_image(path), path.name)
        except LSegDiffError as error:
            failures.append(error)
            if len(files) > 1:
                print(f"{index}/{len(files)}  left out: {error}", file=sys.stderr)
            continue
        prediction = predictor.predict(sampling).refined(morphology)
        export_labels(prediction.labels, target, format, prediction.provenance)
        print(f"{index}/{len(files)}  {target}  {prediction.mask.mean():.1%} of the image")
    if failures:
        raise failures[0] if len(files) == 1 else LSegDiffError(f"{len(failures)} of {len(files)} images were left out")


@app.command()
def evaluate(
    data: Data,
    split: Split = None,
    bundle: Bundle = "polyp",
    device: Device = "auto",
    steps: Annotated[str, typer.Option(help="Step counts to compare, for example 1,4,10.")] = "",
    sampler: Sampler = None,
    seeds: Seeds = None,
    flip: Flip = None,
    zoom: Zoom = None,
    min_confidence: Annotated[str, typer.Option(help="Values of Certainty to compare, for example 0,0.3,0.5.")] = "",
    json_file: Json = None,
) -> None:
    """Measure a bundle on images with masks.

    Prints Dice and IoU with 95 % bootstrap intervals, HD95 and the time per image.

    With several seeds, 'single' is the mean Dice of one sample, 'best' that of each image's best sample, and
    'agreement' the mean IoU of all pairs of samples. The 'round trip' is the Dice of the true masks after
    the mask VAE's encoder and decoder, the ceiling of the model. If there are frames without a lesion, a 'false alarm'
    is a mask on one of them, and 'lesions' the Dice on the others.

    Example: lsegdiff evaluate --data kvasir-seg --split test.txt --steps 1,4,10 --json result.json
    """
    from lsegdiff_core.cli_bench import measure
    from lsegdiff_core.data.readers import read_pairs
    from lsegdiff_core.evaluation import Setting, describe_run
    from lsegdiff_core.predictor import Predictor

    pairs = read_pairs(data, split)
    predictor = Predictor(bundle, device)
    default, morphology = predictor.manifest.sampling, predictor.manifest.morphology
    settings = [
        Setting(sampling_of(default, count, sampler, seeds, flip, zoom), replace(morphology, min_confidence=least))
        for count in numbers(steps, "--steps") or [default.steps]
        for least in fractions(min_confidence, "--min-confidence") or [morphology.min_confidence]
    ]
    rows, summary = measure(predictor, pairs, settings)
    write_json(json_file, summary, rows, describe_run(predictor))


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="JSON file; validation lists lie beside it.")],
    data: Annotated[Path, typer.Option(help="Folder that the config's sources are relative to.")],
    out: Annotated[Path, typer.Option(help="Folder of checkpoints; a stopped training goes on from it.")] = Path(
        "runs/train"
    ),
    backbone: Annotated[
        Path | None, typer.Option(help="safetensors of timm's tf_efficientnet_lite0, to start from.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Instead of the config's.")] = None,
    method: Annotated[
        str | None,
        typer.Option(help="diffusion, or direct: the matched control without diffusion; instead of the config's."),
    ] = None,
    init: Annotated[str | None, typer.Option(help="Bundle to start from instead.")] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="Where to write the finished bundle; OUT/bundle if left out.")
    ] = None,
    weights: Annotated[
        str, typer.Option(help="best (highest validation score) or last (the end of the schedule).")
    ] = "best",
    min_confidence: Annotated[
        float,
        typer.Option(min=0.0, max=0.99, help="The bundle's default of Certainty, to be chosen on validation images."),
    ] = 0.0,
    blend: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Share of the trained weights, the rest is --init's; to be chosen on validation images.",
        ),
    ] = 1.0,
    device: Device = "auto",
) -> None:
    """Train a model and write its bundle.

    First the mask VAE, then image encoder and denoiser. Ctrl+C stops; the same command goes on where it stopped.
    With 'torchrun --nproc-per-node N -m lsegdiff_core train ...' N processes share each batch.

    Example: lsegdiff train configs/polyp/pranet.json --data DATA --backbone tf_efficientnet_lite0.safetensors
    """
    from lsegdiff_core.allocator import keep_large_buffers
    from lsegdiff_core.bundle import load_networks
    from lsegdiff_core.config import load_config, same_networks
    from lsegdiff_core.devices import resolve_device
    from lsegdiff_core.release import Blend, release
    from lsegdiff_core.training import parallel
    from lsegdiff_core.training.config import TrainConfig
    from lsegdiff_core.training.datasets import load_stores
    from lsegdiff_core.training.run import train as run
    from lsegdiff_core.training.run import weights_file

    weights_file(out, weights)  # a wrong name is said now, not after the training
    if blend < 1 and init is None:
        raise LSegDiffError("--blend: needs --init, whose weights are the other part")
    keep_large_buffers()
    settings = load_config(TrainConfig, config)
    settings = replace(
        settings,
        seed=settings.seed if seed is None else seed,
        model=replace(settings.model, method=method or settings.model.method),
    )
    start = None
    if init is not None:
        manifest, start = load_networks(find_bundle(init))
        if not same_networks(manifest.model, settings.model):
            raise LSegDiffError(f"--init: bundle '{init}' holds other networks than {config}; take its 'model' over")
    place = resolve_device(device)
    try:
        with parallel.processes(place):
            stores = load_stores(settings.data, data, config.parent, settings.store_size)
            for stage, report in run(settings, stores, out, backbone, start, place):
                print(_report_line(stage, report), flush=True)
            first = parallel.rank() == 0
    except KeyboardInterrupt:
        print(f"stopped; the same command goes on from {out}")
        raise typer.Exit(130) from None
    if not first:
        return
    target = bundle or out / "bundle"
    blended = None if init is None or blend == 1 else Blend(find_bundle(init), blend)
    manifest = release(settings, out, target, weights, min_confidence, blended)
    print(f"wrote     {target} (validation {manifest.training['validation']})")


@app.command()
def finetune(
    project: Annotated[Path, typer.Argument(help="Folder of an annotation project.")],
    out: Annotated[Path, typer.Option(help="Folder of the new bundle.")],
    bundle: Bundle = "polyp",
    steps: Annotated[
        int | None, typer.Option(min=1, help="Training steps; four for each mask, at most 600, if left out.")
    ] = None,
    device: Device = "auto",
) -> None:
    """Train a bundle further on the accepted masks of a project.

    One mask in four is held out; on these the new bundle is compared with the old one, which stays as it is.

    Example: lsegdiff finetune frames/lsegdiff --bundle polyp --out models/mine
    """
    from lsegdiff_core.allocator import keep_large_buffers
    from lsegdiff_core.comparison import read_comparison
    from lsegdiff_core.devices import resolve_device
    from lsegdiff_core.finetune import finetune as run

    keep_large_buffers()
    try:
        for progress in run(project, bundle, out, steps, resolve_device(device)):
            print(progress, flush=True)
    except KeyboardInterrupt:
        print("stopped; nothing was written")
        raise typer.Exit(130) from None
    print(f"wrote     {out}")
    print(f"compared  {read_comparison(out)}")


def _report_line(stage: str, report: Report) -> str:
    values = "  ".join(f"{name} {value:.4f}" for name, value in report.values.items())
    if report.validation:
        return f"{stage} {report.step}/{report.steps}  validation  {values}"
    speed = f"{report.images_per_second:.1f} images/s  {report.seconds_left / 60:.0f} min left"
    return f"{stage} {report.step}/{report.steps}  {values}  {speed}"


@app.command()
def doctor(bundle: Bundle = "polyp", device: Device = "auto") -> None:
    """Check versions, device and bundle.

    The bundle is asked for the result that it was released with.
    """
    from lsegdiff_core.doctor import WARNING, check, examine

    print(examine(bundle))
    found = check(bundle, device)
    if not found.passed:
        raise LSegDiffError(f"bundle '{bundle}': {found}")
    print(f"{'replay':16s} {found}")
    print(WARNING)


def main() -> None:
    """Run the command line; a mistake of the user gives one line and exit code 2."""
    try:
        app()
    except LSegDiffError as error:
        print(f"lsegdiff: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
