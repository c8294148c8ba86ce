"""Write docs/benchmarks.md and its plots from the files in benchmarks/results; measures nothing itself."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from lsegdiff_core.metrics import bootstrap_interval

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
DOCS = ROOT / "docs"
# The released bundle; the other folders of results are earlier releases and trainings for comparison.
RELEASED = "polyp-0.5.0"

Row = dict[str, Any]
# Columns that rows of images and summaries share but that are no setting.
MEASURES = {"dice", "iou", "hd95", "reconstruction", "single", "best", "agreement"}

INTRODUCTION = """\
# Benchmarks

Written by `make bench` from the files in [benchmarks/results](../benchmarks/README.md); edit those commands, not this
page. Every table names the command that measured it, with its commit and hardware. Dice and IoU are means over
images at the images' own size. The 95 % bootstrap intervals take images as independent: frames of one video are not,
so the intervals of CVC-ClinicDB are too narrow, and PraNet's test frames of it share videos with its training frames.
Of those 62 test frames 54 are at hand.
"""


def main() -> None:
    parts = [
        INTRODUCTION,
        *lists(),
        *seeds(),
        *validation(),
        *held_out(),
        *compute(),
        *samples(),
        *reviews(),
        *interaction(),
        *speed(),
        *training(),
    ]
    (DOCS / "benchmarks.md").write_text("\n".join(parts), encoding="utf-8")


def lists() -> Iterable[str]:
    yield "## Test lists\n"
    yield "Each list was run once for a release candidate; every run is kept.\n"
    for name, title in (("kvasir100", "Kvasir-SEG 100"), ("cvc54", "CVC-ClinicDB 54 of 62")):
        rows, sources = [], []
        for folder in folders():
            result = read(folder, name)
            if result is None:
                continue
            sources.append(result)
            rows += [
                [
                    folder.name,
                    method(result),
                    describe(row),
                    score(row, "dice"),
                    score(row, "iou"),
                    f"{row['hd95']:.1f}",
                ]
                for row in result["summary"]
            ]
        yield table(title, ["model", "method", "setting", "Dice", "IoU", "HD95, px"], rows, sources)
    released = read(RESULTS / RELEASED, "kvasir100")
    if released is not None:
        histogram(released)
        yield "![Dice of each image of Kvasir-SEG 100](benchmarks-histogram.png)\n"


def seeds() -> Iterable[str]:
    yield "## Diffusion, its control, and hints\n"
    yield (
        "The control (`direct`) has the same encoder, pyramid, capacity and hints, BCE + Dice, the same split and "
        "number of images (`lsegdiff train CONFIG --method direct`); it gives its mask in 1 step, diffusion in 4. "
        "`no-hints` is diffusion that never saw a stroke. Mean over training seeds; the difference, diffusion less the "
        "other, is paired by image and seed. `pranet` is the whole recipe (`configs/polyp/pranet.json`, 38,400 images "
        "of up to 288 pixels), `short` a quarter of it at up to 224 (`configs/polyp/short`): its numbers compare its "
        "own arms and nothing else.\n"
    )
    rows, sources = [], []
    for recipe, others in (("pranet", ["direct"]), ("short", ["direct", "no-hints"])):
        for name in ("kvasir100", "cvc54", "validation-kvasir", "validation-cvc"):
            runs = {arm: trained(f"{recipe}-{arm}-seed", name) for arm in ("diffusion", *others)}
            for arm, results in runs.items():
                values = [default_row(result)["dice"] for result in results.values()]
                if values:
                    spread = f"{min(values):.4f} to {max(values):.4f}"
                    rows.append([recipe, name, arm, str(len(values)), f"{statistics.mean(values):.4f}", spread])
                    sources += results.values()
            for other in others:
                both = sorted(runs["diffusion"].keys() & runs[other].keys())
                if both:
                    gains = [images_of(runs["diffusion"][seed]) - images_of(runs[other][seed]) for seed in both]
                    gain = numpy.mean(gains, axis=0)  # of each image, over the training seeds
                    low, high = bootstrap_interval(gain)
                    found = [f"{gain.mean():+.4f}", f"[{low:+.4f}, {high:+.4f}]"]
                    rows.append([recipe, name, f"less {other}", str(len(both)), *found])
    head = ["recipe", "list", "method", "training seeds", "Dice", "lowest to highest, or interval over images"]
    yield table("", head, rows, sources)


def trained(prefix: str, name: str) -> dict[str, Row]:
    """The results called ``name`` of the trainings whose folder begins with ``prefix``, by their seed."""
    found = {folder.name: read(folder, name) for folder in folders() if folder.name.startswith(prefix)}
    return {folder.removeprefix(prefix): result for folder, result in found.items() if result is not None}


def images_of(result: Row) -> numpy.ndarray:
    """The Dice of each image at the default setting."""
    steps = default_row(result)["steps"]
    rows = sorted((row for row in result["images"] if row["steps"] == steps), key=lambda row: row["name"])
    return numpy.array([row["dice"] for row in rows])


def validation() -> Iterable[str]:
    yield "## Validation lists\n"
    yield (
        "Defaults and weights are chosen on these; the trainings never saw them. Frames of PolypGen may have "
        "neighbours among the training frames; the three CVC sequences have none.\n"
    )
    rows, sources = [], []
    for folder in folders():
        for name in ("validation-kvasir", "validation-cvc", "validation-polypgen"):
            result = read(folder, name)
            if result is None:
                continue
            sources.append(result)
            for row in result["summary"]:
                found = [describe(row), score(row, "dice"), alarms(row)]
                rows.append([folder.name, name.removeprefix("validation-"), *found])
    yield table("", ["model", "list", "setting", "Dice", "empty frames with a mask"], rows, sources)


def held_out() -> Iterable[str]:
    yield "## A hospital that was held out\n"
    yield (
        "Certainty is the least expected probability of a part of the mask. It is chosen on the validation lists; the "
        "centre that a training never saw is run once.\n"
    )
    table_of: dict[tuple[str, float], dict[str, Row]] = {}
    sources = []
    for folder, name, result in measured("confidence-"):
        sources.append(result)
        for row in result["summary"]:
            table_of.setdefault((folder.name, row["min_confidence"]), {})[name] = row
    rows = [
        [
            model,
            f"{certainty:g}",
            *(f"{lists[name]['dice_lesion']:.4f}" if name in lists else "" for name in ("kvasir", "cvc", "polypgen")),
            alarms(lists.get("polypgen", {})),
        ]
        for (model, certainty), lists in table_of.items()
    ]
    head = ["model", "certainty", "Kvasir", "CVC", "PolypGen", "empty PolypGen frames with a mask"]
    yield table("Validation lists: Dice of frames with a lesion", head, rows, sources)
    rows, sources = [], []
    for folder, name, result in measured("centre-"):
        sources.append(result)
        for row in result["summary"]:
            values = [f"{row[key]:.4f}" for key in ("dice", "dice_lesion")]
            rows.append([folder.name, name.upper(), f"{row['min_confidence']:g}", *values, alarms(row)])
    head = ["model", "centre", "certainty", "Dice", "Dice of frames with a lesion", "empty frames with a mask"]
    yield table("Held-out centre", head, rows, sources)


def alarms(row: Row) -> str:
    """The share of the frames without a lesion that got a mask; early results did not count it."""
    return f"{row['false_alarms']:.0%} of {row['empty']}" if row.get("empty") else ""


def compute() -> Iterable[str]:
    yield "## What compute at inference buys\n"
    for folder, name, result in measured("compute-"):
        rows = [
            [
                describe(row),
                score(row, "dice"),
                *(f"{row[column]:.4f}" if column in row else "" for column in ("single", "best", "agreement")),
                f"{row['seconds_per_image']:.3f}",
            ]
            for row in result["summary"]
        ]
        head = [
            "setting",
            "Dice",
            "single samples",
            "best sample, chosen with the truth",
            "pairwise IoU",
            "s / image",
        ]
        yield table(f"{folder.name}, {name}", head, rows, [result])
        if folder.name == RELEASED:
            pareto(result)
            yield "![Dice against time](benchmarks-compute.png)\n"


def samples() -> Iterable[str]:
    yield "## Samples\n"
    yield (
        "Eight seeds an image: with `flip` each looks at one of the four mirrored views, without it only the noise "
        "differs. The worst quartile are the images of lowest Dice; a sample is judged without refinement, and the "
        "best one is chosen with the truth.\n"
    )
    rows, sources = [], []
    for folder, name, result in measured("seeds8-"):
        sources.append(result)
        for setting in result["summary"]:
            same = [row for row in result["images"] if row["steps"] == setting["steps"]]
            images = sorted(same, key=lambda row: row["dice"])
            for part, chosen in (("all", images), ("worst quartile", images[: len(images) // 4])):
                means = [
                    statistics.mean(row[column] for row in chosen) for column in ("dice", "single", "best", "agreement")
                ]
                values = [f"{mean:.4f}" for mean in means]
                rows.append([folder.name, name, describe(setting), part, *values])
    head = ["model", "list", "setting", "images", "mean of 8", "single samples", "best sample", "pairwise IoU"]
    yield table("", head, rows, sources)


def reviews() -> Iterable[str]:
    yield "## In which order to review\n"
    yield (
        "Does a score of the model's own find bad masks (Dice below 0.8) sooner than chance? AUC is the probability "
        "that a bad mask comes before a good one, 0.5 in random order. Disagreement is 1 - mean pairwise IoU of the "
        "samples, entropy that of their votes, doubt 1 - the expected probability in the mask.\n"
    )
    for folder, name, result in measured("review-"):
        rows = [
            [
                row["score"],
                f"{row['auc']:.3f} [{row['auc_low']:.3f}, {row['auc_high']:.3f}]",
                *(f"{share:.0%}" for share in row["found"].values()),
            ]
            for row in result["summary"]
        ]
        first = result["summary"][0]
        title = f"{folder.name}, {name}: {first['bad']} of {first['n']} masks are bad"
        head = ["order by", "AUC", "found in the first 10 %", "20 %", "30 %"]
        yield table(title, head, rows, [result])


def interaction() -> Iterable[str]:
    yield "## Touches\n"
    yield (
        "A simulated user touches the largest error until IoU 0.90 or 20 times: a disc in its middle of 2.5 % of the "
        "image's diagonal, or a short stroke along its middle, clipped to the pixels whose truth has its label. A "
        "noisy user touches it anywhere, and one touch in ten has the wrong label. `re-diffuse` samples again under "
        "all touches and from the current mask (strength 1: from pure noise), `paint` only lays them over the first "
        "mask, `control` is the network without diffusion under the same hints. NoC@85: mean touches to IoU 0.85; an "
        "image that starts there counts 0, one that never gets there 20. Lost: share of the first five rounds that "
        "cost more than 0.02.\n"
    )
    for folder, name, result in measured("interactive-"):
        rows = [
            [
                row["method"],
                f"{row['strength']:g}",
                f"{row['noc85']:.2f}",
                f"{row['noc90']:.2f}",
                f"{row['noc90_where_needed']:.2f}",
                f"{row['never90']:.0%}",
                *(f"{value:.4f}" for value in row["iou"]),
                f"{row['lost']:.1%}",
                f"{row['seconds_per_touch'] or 0:.3f}",
            ]
            for row in result["summary"]
        ]
        counts = range(len(result["summary"][0]["iou"]))
        head = ["method", "strength", "NoC@85", "NoC@90", "NoC@90 where needed", "never 0.90"]
        head += [*(f"IoU after {count}" for count in counts), "lost", "s / touch, median"]
        yield table(f"{folder.name}, {name}", head, rows, [result])


def speed() -> Iterable[str]:
    yield "## Time\n"
    for folder in folders():
        touch = read(folder, "touch")
        if touch is not None:
            yield table(
                f"{folder.name}, one touch in the viewer, 1920 x 1080", ["stage", "median"], times(touch), [touch]
            )
        latency = read(folder, "latency")
        if latency is not None:
            yield table(f"{folder.name}, one 1920 x 1080 frame", ["stage", "median"], times(latency), [latency])
        result = read(folder, "responsiveness")
        if result is not None:
            yield table(f"{folder.name}, the window beside bare napari, 1920 x 1080", *responsiveness(result), [result])
        result = read(folder, "throughput")
        if result is not None:
            rows = [
                [
                    *(str(row[name]) for name in ("device", "batch", "steps", "precision", "mode")),
                    f"{row['images_per_second']:.1f}",
                    f"{row['disagreement']:.1e}",
                ]
                for row in result["summary"]
            ]
            head = ["device", "batch", "steps", "precision", "mode", "images / s", "pixels unlike float32"]
            yield table(f"{folder.name}, throughput of the networks", head, rows, [result])


def responsiveness(result: Row) -> tuple[list[str], list[list[str]]]:
    """Medians over the rounds of the longest block of the window, or of the whole time."""
    head = ["operation", "measure", "plugin", "bare napari", "difference", "ratio", "largest difference"]
    rows = [
        [
            row["case"],
            {"blocked": "longest block", "stutter": "blocks beyond 50 ms", "seconds": "whole time"}[row["measure"]],
            *(f"{row[name] * 1000:.0f} ms" for name in ("median", "median by bare napari")),
            f"{row['difference'] * 1000:+.0f} ms",
            f"{row['ratio']:.2f}" if row["ratio"] is not None else "",
            f"{row['worst difference'] * 1000:+.0f} ms",
        ]
        for row in result["summary"]
    ]
    return head, rows


def times(result: Row) -> list[list[str]]:
    return [
        [row["stage"], f"{row['seconds'] * 1000:.1f} ms" if "seconds" in row else f"{row['ratio']:.2f}"]
        for row in result["summary"]
    ]


def training() -> Iterable[str]:
    yield "## Training\n"
    logs = {folder.name: folder / "training.jsonl" for folder in folders() if (folder / "training.jsonl").exists()}
    curves(logs)
    yield (
        "Dice of the averaged weights on the validation images of each training, at 4 steps (control: 1). Their lists "
        "differ (PolypGen is in those of the releases), so a curve compares with itself only.\n"
    )
    yield "![Training curves](benchmarks-training.png)\n"


def folders() -> list[Path]:
    return sorted(path for path in RESULTS.iterdir() if path.is_dir())


def measured(kind: str) -> Iterable[tuple[Path, str, Row]]:
    """Every result whose file's name begins with ``kind``: its folder, the rest of the name, and what it holds."""
    for folder in folders():
        for path in sorted(folder.glob(f"{kind}*.json")):
            yield folder, path.stem.removeprefix(kind), json.loads(path.read_text(encoding="utf-8"))


def read(folder: Path, name: str) -> Row | None:
    path = folder / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def method(result: Row) -> str:
    return str(result["run"].get("method", "diffusion"))


def default_row(result: Row) -> Row:
    """The row at 4 steps, or the only one."""
    return next((row for row in result["summary"] if row["steps"] == 4), result["summary"][0])


def describe(row: Row) -> str:
    parts = [f"{row['steps']} step{'s' if row['steps'] > 1 else ''}"]
    parts += [row["sampler"]] if row.get("sampler", "ddim") != "ddim" else []
    parts += [f"{row['seeds']} seeds"] if row.get("seeds", 1) > 1 else []
    parts += [name for name in ("flip", "zoom") if row.get(name)]
    parts += ["not refined"] if not row.get("fill_holes", True) else []
    parts += [f"smooth {row['smooth']:g} px, at least {row['min_area']} px"] if row.get("smooth") else []
    return ", ".join(parts)


def score(row: Row, name: str) -> str:
    return f"{row[name]:.4f} [{row[f'{name}_low']:.3f}, {row[f'{name}_high']:.3f}]"


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], sources: Sequence[Row]) -> str:
    lines = [f"**{title}**\n"] if title else []
    lines += [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    lines.append("")
    for source in sources:
        run = source["run"]
        where = ", ".join(
            str(part)
            for part in (run.get("commit"), run["device"], run.get("processor"), f"{run['threads']} threads")
            if part
        )
        lines.append(f"    {source['command']}  # {where}")
    return "\n".join([*lines, ""])


def pareto(result: Row) -> None:
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for row in result["summary"]:
        axes.plot(row["seconds_per_image"], row["dice"], "o", color="C1" if row["flip"] or row["zoom"] else "C0")
        axes.annotate(
            describe(row),
            (row["seconds_per_image"], row["dice"]),
            fontsize=6,
            xytext=(3, 3),
            textcoords="offset points",
        )
    axes.set(xscale="log", xlabel="seconds an image", ylabel="Dice", title="Dice against time")
    figure.savefig(DOCS / "benchmarks-compute.png", dpi=120)
    plt.close(figure)


def histogram(result: Row) -> None:
    chosen = default_row(result)
    steps, fields = chosen["steps"], [name for name in result["images"][0] if name in chosen and name not in MEASURES]
    values = [row["dice"] for row in result["images"] if all(row[name] == chosen[name] for name in fields)]
    figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
    axes.hist(values, bins=[number / 40 for number in range(41)])
    axes.set(xlabel=f"Dice of an image, {steps} steps", ylabel="images", xlim=(0, 1))
    figure.savefig(DOCS / "benchmarks-histogram.png", dpi=120)
    plt.close(figure)


def curves(logs: dict[str, Path]) -> None:
    figure, axes = plt.subplots(figsize=(9, 4), layout="constrained")
    axes.set_prop_cycle(color=plt.colormaps["tab20"].colors)
    for name, path in logs.items():
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        points = [row for row in rows if row["stage"] == "denoiser" and row["validation"]]
        dice = [row.get("dice_4", row.get("dice_1")) for row in points]
        if points:  # a training that was ended before its validation has no curve
            axes.plot([row["step"] for row in points], dice, "o-", label=name)
    axes.set(xlabel="training steps", ylabel="validation Dice")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(DOCS / "benchmarks-training.png", dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    main()
