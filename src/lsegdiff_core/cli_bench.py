"""The commands ``lsegdiff bench …``."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lsegdiff_core.cli_options import Bundle, Data, Device, Json, Split, fractions, names, numbers, write_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lsegdiff_core.data.readers import Pair
    from lsegdiff_core.evaluation import Setting
    from lsegdiff_core.predictor import Predictor

Rows = list[dict[str, Any]]

bench = typer.Typer(no_args_is_help=True, help="Benchmarks.")


def measure(predictor: Predictor, pairs: Sequence[Pair], settings: Sequence[Setting]) -> tuple[Rows, Rows]:
    """Evaluate with a progress bar, print the table, and return rows and summary."""
    from lsegdiff_core.evaluation import evaluate, summarise

    rows: Rows = []
    with typer.progressbar(length=len(pairs), label="evaluate", file=sys.stderr) as bar:
        for row in evaluate(predictor, pairs, settings):
            if not rows or rows[-1]["name"] != row["name"]:
                bar.update(1)
            rows.append(row)
    summary = summarise(rows)
    print("steps    n   Dice   [95 % interval]    IoU    [95 % interval]    HD95 px   s/image   setting")
    for row in summary:
        print(
            f"{row['steps']:5d} {row['n']:4d}  {row['dice']:.4f}  [{row['dice_low']:.4f}, {row['dice_high']:.4f}]  "
            f"{row['iou']:.4f}  [{row['iou_low']:.4f}, {row['iou_high']:.4f}]  {row['hd95']:7.1f}   "
            f"{row['seconds_per_image']:7.3f}   {_describe(row)}"
        )
    first = summary[0]
    if first["reconstruction"] is not None:
        worst = first["reconstruction_worst"]
        print(f"mask VAE round trip: Dice {first['reconstruction']:.4f}, worst image {worst:.4f}")
    if first["empty"]:
        print(f"frames without a lesion: {first['empty']}; a false alarm is a mask on one of them")
    return rows, summary


def _seconds(value: float | None) -> str:
    return "no time" if value is None else f"{value:.3f} s"


def _describe(row: dict[str, Any]) -> str:
    parts = [row["sampler"], f"{row['seeds']} seed{'s' if row['seeds'] > 1 else ''}"]
    parts += [name for name in ("flip", "zoom") if row[name]]
    parts.append(f"certainty {row['min_confidence']:g}")
    if row["empty"]:
        lesions = "no lesion" if row["dice_lesion"] is None else f"lesions {row['dice_lesion']:.4f}"
        parts.append(f"{lesions}, false alarms {row['false_alarms']:.0%}")
    if "best" in row:
        parts.append(f"single {row['single']:.4f}, best {row['best']:.4f}, agreement {row['agreement']:.3f}")
    return ", ".join(parts)


@bench.command("latency")
def bench_latency(
    bundle: Bundle = "polyp",
    device: Device = "auto",
    rounds: Annotated[int, typer.Option(min=1, help="Measured rounds; the median counts.")] = 15,
    json_file: Json = None,
) -> None:
    """Median time of each stage of a prediction on a 1920 x 1080 frame."""
    from lsegdiff_core.benchmark import latency, summarise_latency
    from lsegdiff_core.evaluation import describe_run
    from lsegdiff_core.predictor import Predictor

    predictor = Predictor(bundle, device)
    rows = list(latency(predictor, rounds))
    summary = summarise_latency(rows)
    for row in summary:
        value = f"{row['seconds'] * 1000:8.1f} ms" if "seconds" in row else f"{row['ratio']:8.2f}"
        print(f"{row['stage']:20s} {value}")
    write_json(json_file, summary, rows, describe_run(predictor))


@bench.command("throughput")
def bench_throughput(
    bundle: Bundle = "polyp",
    device: Device = "auto",
    batches: Annotated[str, typer.Option(help="Images a batch, for example 1,8,64.")] = "1,8",
    precisions: Annotated[str, typer.Option(help="Of float32, tf32, bf16.")] = "float32,bf16",
    modes: Annotated[str, typer.Option(help="Of eager, compiled (torch.compile; CUDA graphs on a GPU).")] = "eager",
    rounds: Annotated[int, typer.Option(min=1, help="Measured rounds; the median counts.")] = 5,
    json_file: Json = None,
) -> None:
    """Images per second of the networks at 1 and 4 steps, and how far masks move from float32."""
    from lsegdiff_core.benchmark import MODES, PRECISIONS, throughput
    from lsegdiff_core.evaluation import describe_run
    from lsegdiff_core.predictor import Predictor

    predictor = Predictor(bundle, device)
    print("batch  steps  precision  mode      ms a batch   images/s   mask pixels that differ")
    rows: Rows = []
    chosen = names(precisions, "--precisions", PRECISIONS), names(modes, "--modes", MODES)
    for row in throughput(predictor, numbers(batches, "--batches"), *chosen, rounds):
        rows.append(row)
        print(
            f"{row['batch']:5d}  {row['steps']:5d}  {row['precision']:9s}  {row['mode']:8s}  "
            f"{row['seconds'] * 1000:10.1f}  {row['images_per_second']:9.1f}   {row['disagreement']:.1e}",
            flush=True,
        )
    write_json(json_file, rows, [], describe_run(predictor))


@bench.command("compute")
def bench_compute(
    data: Data, split: Split = None, bundle: Bundle = "polyp", device: Device = "auto", json_file: Json = None
) -> None:
    """Dice and time against steps, sampler, seeds, flips, the zoomed second pass and morphology."""
    from lsegdiff_core.data.readers import read_pairs
    from lsegdiff_core.evaluation import describe_run
    from lsegdiff_core.predictor import Predictor
    from lsegdiff_core.studies import compute_settings

    pairs = read_pairs(data, split)
    predictor = Predictor(bundle, device)
    rows, summary = measure(predictor, pairs, compute_settings(predictor.manifest.morphology))
    write_json(json_file, summary, rows, describe_run(predictor))


@bench.command("interactive")
def bench_interactive(
    data: Data,
    split: Split = None,
    bundle: Bundle = "polyp",
    control: Annotated[
        str, typer.Option(help="Bundle of the matched control without diffusion, to be corrected the same way.")
    ] = "",
    device: Device = "auto",
    touch: Annotated[str, typer.Option(help="disc, or stroke: a short line along the middle of the error.")] = "disc",
    noisy: Annotated[bool, typer.Option("--noisy", help="Touches off centre, one in ten with a wrong label.")] = False,
    strengths: Annotated[str, typer.Option(help="How much a touch draws again, for example 0.5,1.")] = "1",
    json_file: Json = None,
) -> None:
    """Touches of a simulated user until the mask is good: re-diffused, only painted, and with the control."""
    from lsegdiff_core.data.readers import read_pairs
    from lsegdiff_core.evaluation import describe_run
    from lsegdiff_core.interactive import User, interact, summarise_interaction
    from lsegdiff_core.predictor import Predictor

    pairs, user = read_pairs(data, split), User(touch, noisy)
    predictor = Predictor(bundle, device)
    ways = [("paint", predictor, 1.0)]
    ways += [("re-diffuse", predictor, strength) for strength in fractions(strengths, "--strengths")]
    ways += [("control", Predictor(control, device), 1.0)] if control else []
    rows: Rows = []
    summary: Rows = []
    print("method      strength    n  NoC@85  NoC@90  never 90  lost    mean IoU after 0, 1, 2, … touches")
    for name, model, strength in ways:
        sampling = replace(model.manifest.sampling, strength=strength)
        way = {"method": name, "strength": strength, "touch": touch, "noisy": noisy}
        mine: Rows = []
        with typer.progressbar(length=len(pairs), label=name, file=sys.stderr) as bar:
            for row in interact(model, pairs, sampling, "paint" if name == "paint" else "re-diffuse", user):
                mine.append({**way, **row})
                bar.update(1)
        rows += mine
        summary.append({**way, "bundle": model.identity, **summarise_interaction(mine)})
        row = summary[-1]
        print(
            f"{name:10s}  {strength:8.2f}  {row['n']:3d}  {row['noc85']:6.2f}  {row['noc90']:6.2f}  "
            f"{row['never90']:8.0%}  {row['lost']:4.1%}  {'  '.join(f'{score:.4f}' for score in row['iou'])}  "
            f"{_seconds(row['seconds_per_touch'])} a touch",
            flush=True,
        )
    write_json(json_file, summary, rows, describe_run(predictor))


@bench.command("review")
def bench_review(
    data: Data,
    split: Split = None,
    bundle: Bundle = "polyp",
    device: Device = "auto",
    seeds: Annotated[int, typer.Option(min=2, help="Samples an image.")] = 4,
    json_file: Json = None,
) -> None:
    """In which order a reviewer finds the bad masks soonest: by disagreement, entropy or doubt."""
    from lsegdiff_core.data.readers import read_pairs
    from lsegdiff_core.evaluation import describe_run
    from lsegdiff_core.predictor import Predictor
    from lsegdiff_core.review import BAD, review, summarise_review

    pairs, predictor = read_pairs(data, split), Predictor(bundle, device)
    sampling = replace(predictor.manifest.sampling, seeds=tuple(range(seeds)))
    rows: Rows = []
    with typer.progressbar(length=len(pairs), label="review", file=sys.stderr) as bar:
        for row in review(predictor, pairs, sampling):
            rows.append(row)
            bar.update(1)
    summary = summarise_review(rows)
    print(f"{summary[0]['bad']} of {len(rows)} masks have a Dice below {BAD}; a random order has an AUC of 0.5")
    print("order by        AUC  [95 % interval]    found among the first 10 %   20 %   30 % of the images")
    for row in summary:
        found = "   ".join(f"{share:4.0%}" for share in row["found"].values())
        print(f"{row['score']:12s}  {row['auc']:.3f}  [{row['auc_low']:.3f}, {row['auc_high']:.3f}]{'':29s}{found}")
    write_json(json_file, summary, rows, describe_run(predictor))
