"""One touch on a 1920 x 1080 frame, from the release of the mouse to the new mask in the layer.

    xvfb-run -a python benchmarks/touch.py --json benchmarks/results/polyp-0.2.0/touch.json

The network's part (hint encoder, denoiser steps, decoder) and what is around it are timed in the same rounds. The
longest block of the window is compared with that of writing the same pixels into a bare napari layer of the same size.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import napari
import numpy as np
from heartbeat import REDRAW, REST, Heartbeat, pause, wait

from lsegdiff_core.cli_options import write_json
from lsegdiff_core.data.geometry import Geometry
from lsegdiff_core.data.phantom import draw_phantom
from lsegdiff_core.evaluation import describe_run
from lsegdiff_core.hints import Hints
from lsegdiff_core.prediction import Prediction
from lsegdiff_core.predictor import Predictor
from napari_lsegdiff._layers import MaskLog
from napari_lsegdiff._session import Job, Session
from napari_lsegdiff._widget import SegmentationDock
from napari_lsegdiff._worker import PredictorCache

HEIGHT, WIDTH = 1080, 1920
# what is timed: the class, its method, the stage, and whether the network works there
STAGES = (
    (Session, "hints", "strokes to hints", False),
    (Job, "read", "read the frame", False),
    (PredictorCache, "encode", "recognise the frame", False),
    (Hints, "planes", "hints to the square", False),
    (Predictor, "encode_hints", "hint encoder", True),
    (Predictor, "denoise", "denoiser, 4 steps", True),
    (Predictor, "decode", "decoder", True),
    (Geometry, "from_square", "geometry back", False),
    (MaskLog, "_collect_painted", "read the stroke", False),
    (MaskLog, "write", "write the mask", False),
)
NETWORK = [stage for _, _, stage, network in STAGES if network]


class Clock:
    """Seconds by stage, and the longest block of the window, since the last reset."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.heartbeat = Heartbeat()

    def reset(self) -> None:
        self.seconds.clear()
        self.heartbeat.reset()

    def watch(self, owner: type, name: str, stage: str) -> None:
        inner: Callable[..., Any] = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            began = perf_counter()
            try:
                return inner(*args, **kwargs)
            finally:
                self.seconds[stage] += perf_counter() - began

        setattr(owner, name, timed)


def measure(rounds: int, bundle: str) -> tuple[list[dict[str, Any]], Predictor]:
    viewer = napari.Viewer()
    clock = Clock()
    for owner, name, stage, _ in STAGES:
        clock.watch(owner, name, stage)
    # the mask is refined where it is first asked for
    refine = Prediction.mask.func
    Prediction.mask.func = lambda self: _timed(clock, "morphology", refine, self)
    dock = SegmentationDock(viewer)
    viewer.window.add_dock_widget(dock)
    dock.choices.choose(bundle)
    viewer.add_image(draw_phantom(seed=1, height=HEIGHT, width=WIDTH).image, name="frame")
    done: list[bool] = []
    dock.finished.connect(done.append)

    dock.run()
    wait(lambda: bool(done))
    labels = viewer.layers["frame mask"]
    labels.brush_size = 60
    dock.correct.auto.setChecked(True)
    bare = viewer.add_labels(np.zeros((HEIGHT, WIDTH), np.uint8), name="bare")
    viewer.layers.selection.active = labels
    generator = np.random.default_rng(0)
    rows = []
    for number in range(rounds + 2):
        value = number % 2  # a piece is added where there is none, then one is taken away
        places = np.argwhere(labels.data == value)
        place = tuple(places[generator.integers(len(places))])
        pause(REST)
        before = labels.data.copy()
        done.clear()
        clock.reset()
        began = perf_counter()
        # a call of `paint` ends like the release of the mouse: the undo item is complete
        labels.paint(place, 1 - value)
        painting = perf_counter() - began
        wait(lambda: bool(done))
        total = perf_counter() - began
        pause(REDRAW)
        seconds, blocked = dict(clock.seconds), clock.heartbeat.longest
        where = np.nonzero(labels.data != before)
        clock.reset()
        bare.data_setitem(where, labels.data[where])
        pause(REDRAW)
        if number >= 2:
            rows.append(
                {
                    "round": number - 2,
                    "total": total,
                    "paint": painting,
                    "blocked": blocked,
                    "blocked by bare napari": clock.heartbeat.longest,
                    **seconds,
                }
            )
    viewer.close()
    return rows, dock._runner._cache.predictor(bundle, "auto")


def _timed(clock: Clock, stage: str, function: Callable[..., Any], *args: Any) -> Any:
    began = perf_counter()
    try:
        return function(*args)
    finally:
        clock.seconds[stage] += perf_counter() - began


def summarise(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    names = [name for name in rows[0] if name not in ("round",)]
    middle = {name: statistics.median(row.get(name, 0.0) for row in rows) for name in names}
    network = sum(middle[name] for name in NETWORK)
    apart = ("total", "paint", "blocked", "blocked by bare napari", *NETWORK)
    known = sum(value for name, value in middle.items() if name not in apart)
    around = middle["total"] - network  # all of it, also what has no row, such as waiting for the thread
    summary = [{"stage": name, "seconds": value} for name, value in middle.items()]
    summary += [
        {"stage": "network", "seconds": network},
        {"stage": "around the network, in rows", "seconds": known},
        {"stage": "around the network", "seconds": around},
        {"stage": "around / network", "ratio": around / network},
    ]
    return summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", default="polyp")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows, predictor = measure(options.rounds, options.bundle)
    summary = summarise(rows)
    for row in summary:
        value = f"{row['seconds'] * 1000:8.1f} ms" if "seconds" in row else f"{row['ratio']:8.2f}"
        print(f"{row['stage']:24s} {value}")
    command = " ".join(["python", *sys.argv])
    write_json(options.json, summary, rows, {**describe_run(predictor)}, command)


if __name__ == "__main__":
    main()
