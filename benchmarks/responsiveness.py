"""Does the window stay usable? The longest block of each operation beside that of bare napari doing the same.

    xvfb-run -a python benchmarks/responsiveness.py --json benchmarks/results/polyp-0.2.0/responsiveness.json

Every round measures both, one after the other: the plugin, and a viewer without it that gets the same arrays in layers
of the same types at the same moments. A case is a function in `CASES` that yields a row (`compared`) a round, the first
of which is a warm-up.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

import bare
import imageio.v3 as iio
import numpy as np
from bare import Viewer
from heartbeat import REST, Measured, pause, wait
from numpy.typing import NDArray
from qtpy.QtCore import QTimer
from qtpy.QtTest import QTest

from lsegdiff_core.cli_options import write_json
from lsegdiff_core.data.phantom import Phantom, draw_phantom
from lsegdiff_core.evaluation import describe_run
from lsegdiff_core.project import Project
from napari_lsegdiff._jobs import Job, Refined
from napari_lsegdiff._shortcuts import DEFAULT
from napari_lsegdiff._widget import SegmentationDock
from napari_lsegdiff._worker import Preview

HEIGHT, WIDTH = 1080, 1920
SEED = 1  # of the first phantom; every further frame has the next one
STEPS = 50
LEARNT, LEARNING = 8, 3.0  # accepted masks that are learnt from, and seconds that a round watches it
TICK = 16  # milliseconds between two ticks of a slider
BARE = " by bare napari"

T = TypeVar("T")
Row = dict[str, Any]


class Bench:
    """The plugin in a viewer, and bare napari in another process."""

    def __init__(self, bundle: str) -> None:
        self.bundle = bundle
        self.ours = Viewer()
        self.dock = SegmentationDock(self.ours.napari)
        self.ours.napari.window.add_dock_widget(self.dock, area="right")
        self.dock.choices.choose(bundle)
        pause(REST)  # the dock gets its width
        self._bare = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        self.barely(bare.begin, self.dock.width(), tuple(self.ours.canvas.size))
        self._ended: list[bool] = []
        self.dock.finished.connect(self._ended.append)

    def close(self) -> None:
        self.barely(bare.end)
        self._bare.shutdown()
        self.ours.napari.close()

    def barely(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function of `bare` in the process of bare napari."""
        return self._bare.submit(function, *args).result()

    def measure(self, start: Callable[[], object], done: Callable[[], bool]) -> Measured:
        self.ours.front()
        return self.ours.heartbeat.measure(start, done)

    @property
    def ended(self) -> bool:
        """Whether a run has ended since `run`; the program ends if it gave no mask."""
        if self._ended and not self._ended[-1]:
            raise SystemExit(self.dock.status)
        return bool(self._ended)

    def run(self) -> None:
        self._ended.clear()
        self.dock.run()

    def mask(self) -> NDArray[np.uint8]:
        """Return a copy of the mask of the chosen image."""
        layer = self.dock._session.mask_layer(self.dock.images.layer)
        return np.array(layer.data)


def compared(ours: Measured, bare: Measured) -> Row:
    """Return a round's longest blocks and its stutter: a maximum alone says nothing of what else went on."""
    return {
        "blocked": ours.blocked,
        f"blocked{BARE}": bare.blocked,
        "stutter": ours.stutter,
        f"stutter{BARE}": bare.stutter,
    }


def timed(ours: Measured, bare: Measured) -> Row:
    """Return a round's longest blocks and how long it took."""
    return compared(ours, bare) | {"seconds": ours.seconds, f"seconds{BARE}": bare.seconds}


def frame(number: int = 0) -> Phantom:
    return draw_phantom(SEED + number, HEIGHT, WIDTH)


def long_run(bench: Bench) -> Iterator[Row]:
    """A run of 50 steps with its preview; bare napari shows the same previews and adds the same mask."""
    dock, image = bench.dock, frame().image
    dock.choices.steps.setValue(STEPS)
    moments: list[tuple[float, bare.Action]] = []
    began = 0.0
    show_preview = dock._correction.preview

    def preview(job: Job, shown: Preview) -> None:
        moments.append((perf_counter() - began, bare.Preview(shown.square, shown.geometry.box)))
        show_preview(job, shown)

    def start() -> None:
        nonlocal began
        began = perf_counter()
        bench.run()

    dock._correction.preview = preview
    try:
        while True:
            bench.ours.show(image)
            bench.barely(bare.show, image)
            moments.clear()
            ours = bench.measure(start, lambda: bench.ended)
            moments.append((ours.seconds, bare.Mask(bench.mask())))
            its = bench.barely(bare.replay, moments)
            yield compared(ours, its) | {"previews": len(moments) - 1, "run": ours.seconds}
    finally:
        dock._correction.preview = show_preview


def slider(bench: Bench) -> Iterator[Row]:
    """Opening dragged from one end to the other and back; bare napari writes the same masks."""
    dock, control = bench.dock, bench.dock.refine.opening
    image = frame().image
    bench.ours.show(image)
    bench.run()
    wait(lambda: bench.ended)
    control.setValue(0)
    wait(lambda: dock._arrivals.idle)
    first = bench.mask()
    bench.barely(bare.show, image, first)
    written: list[tuple[float, NDArray[np.bool_]]] = []
    values: list[int] = []
    began = 0.0
    ticks = QTimer()
    ticks.setInterval(TICK)

    def start() -> None:
        nonlocal began
        began = perf_counter()
        written.clear()
        values[:] = [*range(1, control.maximum()), *range(control.maximum(), -1, -1)]
        control.setSliderDown(True)
        ticks.start()

    def tick() -> None:
        control.setValue(values.pop(0))
        if not values:
            ticks.stop()
            control.setSliderDown(False)

    def note(refined: Refined) -> None:
        written.append((perf_counter() - began, refined.mask))

    def writes() -> Iterator[tuple[float, bare.Action]]:
        before = first > 0
        for moment, mask in written:
            where = np.nonzero(mask != before)
            if len(where[0]):
                yield moment, bare.Write(where, mask[where].astype(first.dtype))
            before = mask

    ticks.timeout.connect(tick)
    dock._arrivals.written.connect(note)
    try:
        while True:
            ours = bench.measure(start, lambda: not values and dock._arrivals.idle)
            moments = list(writes())
            yield compared(ours, bench.barely(bare.replay, moments)) | {"writes": len(moments)}
    finally:
        dock._arrivals.written.disconnect(note)


def queue(bench: Bench, key: str) -> Iterator[Row]:
    """From a key to the next image, which is ready, with its mask; bare napari swaps the same image and labels."""
    layers, work = bench.ours.napari.layers, bench.dock.queue
    bench.ours.clear()
    with tempfile.TemporaryDirectory() as folder:
        pictures = (turned for number in range(8) for turned in _turned(frame(number).image))
        for number, picture in enumerate(pictures):
            iio.imwrite(Path(folder) / f"frame_{number:02}.png", picture, compress_level=1)
        work.open_folder(Path(folder))

        def there(name: str) -> bool:
            return name in layers and f"{name} mask" in layers and len(layers) == 2 and bench.ours.drawn

        def ready(name: str, following: str) -> bool:
            return there(name) and work._ahead.is_ready(following)

        try:
            names = list(work.project.items)
            for name, following in itertools.pairwise(names):
                wait(partial(ready, name, following))
                press = partial(QTest.keyClick, bench.ours.canvas.native, key)
                ours = bench.measure(press, partial(there, following))
                its = bench.barely(bare.swap, layers[following].data, bench.mask())
                yield timed(ours, its)
        finally:
            work.close_project()


def _turned(image: NDArray[np.uint8]) -> Iterable[NDArray[np.uint8]]:
    # each round needs a frame that nobody has seen, and drawing one takes seconds
    return image, image[:, ::-1], image[::-1], image[::-1, ::-1]


def learning(bench: Bench) -> Iterator[Row]:
    """Seconds in which the model learns from corrections in a process of its own; bare napari rests meanwhile."""
    learner = bench.dock.learn.learner
    heard: list[object] = []
    numbers = itertools.count(1)
    learner.progressed.connect(heard.append)
    learner.failed.connect(lambda line, details: sys.exit(details))
    bench.ours.show(frame().image)
    with tempfile.TemporaryDirectory() as folder:
        small = [draw_phantom(SEED + number) for number in range(LEARNT)]
        for number, phantom in enumerate(small):
            iio.imwrite(Path(folder) / f"frame_{number:02}.png", phantom.image)
        project = Project.of_folder(Path(folder))
        for name, phantom in zip(project.items, small, strict=True):
            project.save(name, phantom.mask.astype(np.uint8), None, {}, accepted=True, seconds=0.0)
        project.close()
        try:
            while True:
                if not learner.running:
                    heard.clear()
                    learner.start(project.folder, bench.bundle, Path(folder) / f"tuned-{next(numbers)}", "cpu")
                    wait(lambda: bool(heard))
                bench.ours.front()
                yield compared(bench.ours.heartbeat.watch(LEARNING), bench.barely(bare.watch, LEARNING))
        finally:
            learner.cancel()


def fresh(bench: Bench, operation: str) -> Iterator[Row]:
    """Something that is slow the first time only, in a process of its own; see `fresh.py`."""
    with tempfile.TemporaryDirectory() as folder:
        image, mask = Path(folder) / "image.npy", Path(folder) / "mask.npy"
        np.save(image, frame().image)
        np.save(mask, frame().mask.astype(np.uint8))
        script = [sys.executable, str(Path(__file__).with_name("fresh.py")), "--image", str(image)]

        def result(*options: str) -> Row:
            done = subprocess.run([*script, *options], stdout=subprocess.PIPE, text=True, check=True)
            return json.loads(done.stdout.splitlines()[-1])

        while True:
            ours, its = result("--bundle", bench.bundle), result("--mask", str(mask))
            row = compared(Measured(*ours[operation]), Measured(*its[operation]))
            if operation == "run":
                row |= {"blocked while loading": ours["loading"], "states": ours["states"]}
            yield row


CASES: dict[str, Callable[[Bench], Iterator[Row]]] = {
    f"run of {STEPS} steps": long_run,
    "morphology slider": slider,
    "next image": partial(queue, key=DEFAULT.next),
    "accept, next image": partial(queue, key=DEFAULT.accept),
    "fine-tuning": learning,
    "opening the dock": partial(fresh, operation="dock"),
    "first run": partial(fresh, operation="run"),
}


def summarise(rows: list[Row]) -> list[Row]:
    """Return medians and the worst of each case's measures, and what the plugin adds to bare napari."""
    summary = []
    for case in dict.fromkeys(row["case"] for row in rows):
        rounds = [row for row in rows if row["case"] == case]
        for measure in [name.removesuffix(BARE) for name in rounds[0] if name.endswith(BARE)]:
            pairs = [(row[measure], row[measure + BARE]) for row in rounds]
            ours, bare = (statistics.median(values) for values in zip(*pairs, strict=True))
            beyond = [our - its for our, its in pairs]
            summary.append(
                {
                    "case": case,
                    "measure": measure,
                    "median": ours,
                    f"median{BARE}": bare,
                    "difference": statistics.median(beyond),
                    "ratio": ours / bare if bare else None,
                    "worst": max(our for our, _ in pairs),
                    f"worst{BARE}": max(its for _, its in pairs),
                    "worst difference": max(beyond),
                }
            )
    return summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", default="polyp")
    parser.add_argument("--rounds", type=int, default=10, help="after the warm-up, up to 30 (default: 10)")
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as own:
        # neither settings nor crashed sessions of whoever measures
        os.environ["XDG_STATE_HOME"] = os.environ["XDG_CONFIG_HOME"] = own
        bench = Bench(options.bundle)
        for case in options.cases:
            rounds = CASES[case](bench)
            for number, row in zip(range(-1, options.rounds), rounds, strict=False):
                if number >= 0:
                    rows.append({"case": case, "round": number, **row})
            rounds.close()
            for row in summarise([row for row in rows if row["case"] == case]):
                print(
                    f"{case:20s} {row['measure']:8s} {row['median'] * 1000:7.0f} ms, bare napari "
                    f"{row['median' + BARE] * 1000:7.0f} ms, difference {row['difference'] * 1000:+7.0f} ms; "
                    f"worst {row['worst'] * 1000:.0f} and {row['worst' + BARE] * 1000:.0f} ms",
                    flush=True,
                )
        run = describe_run(bench.dock._runner._cache.predictor(options.bundle, "auto"))
        bench.close()
    about = {"frame": [HEIGHT, WIDTH], "phantoms from seed": SEED, "seeds": [0], "rounds": options.rounds}
    write_json(options.json, summarise(rows), rows, run | about, " ".join(["python", *sys.argv]))


if __name__ == "__main__":
    main()
