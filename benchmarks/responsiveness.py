"""Does the window stay usable? The longest block of each operation beside that of bare napari doing the same.

    xvfb-run -a python benchmarks/responsiveness.py --json benchmarks/results/polyp-0.2.0/responsiveness.json

Every round measures both, one after the other: the plugin, and a viewer without it that gets the same arrays in layers
of the same types at the same moments. A case is a function in `CASES` that yields a row (`compared`) a round, the first
of which is a warm-up.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import imageio.v3 as iio
import napari
import numpy as np
from heartbeat import REST, Heartbeat, Measured, pause, wait
from numpy.typing import NDArray
from qtpy.QtCore import QTimer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QLabel

from lsegdiff_core.cli_options import write_json
from lsegdiff_core.data.phantom import Phantom, draw_phantom
from lsegdiff_core.evaluation import describe_run
from napari_lsegdiff._jobs import Refined
from napari_lsegdiff._keys import DEFAULT
from napari_lsegdiff._widget import SegmentationDock
from napari_lsegdiff._worker import Preview

HEIGHT, WIDTH = 1080, 1920
WINDOW = (1280, 800)
SEED = 1  # of the first phantom; every further frame has the next one
STEPS = 50
TICK = 16  # milliseconds between two ticks of a slider
BARE = " by bare napari"

Row = dict[str, Any]
Moments = list[tuple[float, Callable[[], object]]]


class Viewer:
    """A napari viewer that knows when its canvas was drawn since the last change of its layers."""

    def __init__(self) -> None:
        self.napari = napari.Viewer()
        self.napari.window.resize(*WINDOW)
        self.drawn = True
        self._canvas = self.napari.window._qt_viewer.canvas
        self._canvas.events.draw.connect(self._on_draw)
        self.napari.layers.events.inserted.connect(self._on_layers)
        self.napari.layers.events.removed.connect(self._on_layers)

    @property
    def size(self) -> tuple[int, int]:
        """Of the canvas, which decides what drawing costs."""
        return tuple(self._canvas.size)

    def press(self, key: str) -> None:
        QTest.keyClick(self._canvas.native, key)

    def clear(self) -> None:
        # a software driver crashes when layers go and others come between two drawings
        self.napari.layers.clear()
        wait(lambda: self.drawn)

    def _on_draw(self, event: object) -> None:
        self.drawn = True

    def _on_layers(self, event: object) -> None:
        self.drawn = False


class Bench:
    """The plugin in a viewer, another viewer without it, and the heartbeat of both."""

    def __init__(self, bundle: str) -> None:
        self.bundle = bundle
        self.heartbeat = Heartbeat()
        self.ours, self.bare = Viewer(), Viewer()
        self.dock = SegmentationDock(self.ours.napari)
        self.ours.napari.window.add_dock_widget(self.dock, area="right")
        self.dock.choices.choose(bundle)
        # an empty dock, so that both canvases have as many pixels
        beside = QLabel("bare napari")
        pause(REST)
        beside.setFixedWidth(self.dock.width())
        self.bare.napari.window.add_dock_widget(beside, area="right")
        wait(lambda: self.ours.size == self.bare.size)
        self._ended: list[bool] = []
        self.dock.finished.connect(self._ended.append)

    @property
    def ended(self) -> bool:
        """Whether a run has ended since `run`; the program ends if it gave no mask."""
        if self._ended and not self._ended[-1]:
            raise SystemExit(self.dock.status)
        return bool(self._ended)

    def run(self) -> None:
        self._ended.clear()
        self.dock.run()

    def show(self, image: NDArray[np.uint8]) -> None:
        """Show nothing but an image, in both viewers."""
        for viewer in (self.ours, self.bare):
            viewer.clear()
            viewer.napari.add_image(image, name="frame")
        wait(lambda: self.ours.drawn and self.bare.drawn)

    def mask(self) -> NDArray[np.uint8]:
        image = self.dock.images.layer
        layer = None if image is None else self.dock._session.mask_layer(image)
        if layer is None:
            raise SystemExit(f"there is no mask; the dock says: {self.dock.status}")
        return np.array(layer.data)

    def replay(self, moments: Moments) -> Measured:
        """Do in the bare viewer what was recorded, each at its second."""
        left = len(moments)

        def act(function: Callable[[], object]) -> None:
            nonlocal left
            function()
            left -= 1

        def start() -> None:
            for moment, function in moments:
                QTimer.singleShot(round(moment * 1000), partial(act, function))

        return self.heartbeat.measure(start, lambda: left == 0)


def compared(ours: Measured, bare: Measured) -> Row:
    """Return a round's longest blocks."""
    return {"blocked": ours.blocked, f"blocked{BARE}": bare.blocked}


def timed(ours: Measured, bare: Measured) -> Row:
    """Return a round's longest blocks and how long it took."""
    return compared(ours, bare) | {"seconds": ours.seconds, f"seconds{BARE}": bare.seconds}


def frame(number: int = 0) -> Phantom:
    return draw_phantom(SEED + number, HEIGHT, WIDTH)


def long_run(bench: Bench) -> Iterator[Row]:
    """A run of 50 steps with its preview; bare napari shows the same previews and adds the same mask."""
    dock, layers = bench.dock, bench.bare.napari.layers
    image = frame().image
    dock.choices.steps.setValue(STEPS)
    previews: list[tuple[float, Preview]] = []
    began = 0.0

    def note(update: object) -> None:
        if isinstance(update, Preview):
            previews.append((perf_counter() - began, update))

    def start() -> None:
        nonlocal began
        began = perf_counter()
        bench.run()

    def show(preview: Preview) -> None:
        square = preview.square
        if "preview" in layers:
            layers["preview"].data = square
            return
        top, left, bottom, right = preview.geometry.box
        scale = np.divide((bottom - top, right - left), square.shape)
        translate = np.add((top, left), (scale - 1) / 2)
        look = {"colormap": "cyan", "contrast_limits": (0, 1), "interpolation2d": "linear", "blending": "additive"}
        bench.bare.napari.add_image(square, name="preview", scale=scale, translate=translate, **look)

    def finish(mask: NDArray[np.uint8]) -> None:
        if "preview" in layers:
            layers.remove("preview")
        bench.bare.napari.add_labels(mask)

    dock._runner.updated.connect(note)
    try:
        while True:
            bench.show(image)
            previews.clear()
            ours = bench.heartbeat.measure(start, lambda: bench.ended)
            moments: Moments = [(moment, partial(show, preview)) for moment, preview in previews]
            moments.append((ours.seconds, partial(finish, bench.mask())))
            yield compared(ours, bench.replay(moments)) | {"previews": len(previews), "run": ours.seconds}
    finally:
        dock._runner.updated.disconnect(note)


def slider(bench: Bench) -> Iterator[Row]:
    """Opening dragged from one end to the other and back; bare napari writes the same masks."""
    dock = bench.dock
    control = dock.refine.opening
    bench.show(frame().image)
    bench.run()
    wait(lambda: bench.ended)
    first = bench.mask()
    bare = bench.bare.napari.add_labels(first.copy())
    written: list[tuple[float, NDArray[np.bool_]]] = []
    left: list[int] = []
    began = 0.0
    ticks = QTimer()
    ticks.setInterval(TICK)

    def start() -> None:
        nonlocal began
        began = perf_counter()
        written.clear()
        left[:] = [*range(control.maximum(), 0, -1), *range(control.maximum() + 1)]
        left.append(0)
        control.setSliderDown(True)
        ticks.start()

    def tick() -> None:
        control.setValue(left.pop())
        if not left:
            ticks.stop()
            control.setSliderDown(False)

    def note(refined: Refined) -> None:
        written.append((perf_counter() - began, refined.mask))

    def writes() -> Iterator[tuple[float, Callable[[], object]]]:
        before = first > 0
        for moment, mask in written:
            where = np.nonzero(mask != before)
            if len(where[0]):
                yield moment, partial(bare.data_setitem, where, mask[where].astype(first.dtype))
            before = mask

    ticks.timeout.connect(tick)
    dock._arrivals.written.connect(note)
    try:
        while True:
            ours = bench.heartbeat.measure(start, lambda: not left and dock._arrivals.idle)
            moments = list(writes())
            yield compared(ours, bench.replay(moments)) | {"ticks": 2 * control.maximum() + 1, "writes": len(moments)}
    finally:
        dock._arrivals.written.disconnect(note)


def queue(bench: Bench, key: str) -> Iterator[Row]:
    """From a key to the next image, which is ready, with its mask; bare napari swaps the same image and labels."""
    ours, bare, work = bench.ours.napari, bench.bare, bench.dock.queue
    bench.show(frame().image)
    bench.ours.clear()
    with tempfile.TemporaryDirectory() as folder:
        # mirrored, a frame is another one; each round needs one that nobody has seen
        pictures = (turned for number in range(8) for turned in _turned(frame(number).image))
        for number, picture in enumerate(pictures):
            iio.imwrite(Path(folder) / f"frame_{number:02}.png", picture, compress_level=1)
        work.open_folder(Path(folder))

        def there(name: str) -> bool:
            layers = ours.layers
            return name in layers and f"{name} mask" in layers and len(layers) == 2 and bench.ours.drawn

        try:
            names = list(work.project.items)
            for name, following in zip(names, names[1:], strict=False):
                wait(lambda name=name, following=following: there(name) and work._ahead.is_ready(following))
                swapped = bench.heartbeat.measure(
                    lambda: bench.ours.press(key), lambda following=following: there(following)
                )
                image, mask = ours.layers[following].data, ours.layers[f"{following} mask"].data.copy()

                def swap(image: NDArray[np.uint8] = image, mask: NDArray[np.uint8] = mask) -> None:
                    bare.clear()
                    bare.napari.add_image(image)
                    bare.napari.add_labels(mask)

                yield timed(swapped, bench.heartbeat.measure(swap, lambda: bare.drawn))
        finally:
            work.close_project()


def _turned(image: NDArray[np.uint8]) -> Iterable[NDArray[np.uint8]]:
    return image, image[:, ::-1], image[::-1], image[::-1, ::-1]


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
            ours, bare = result("--bundle", bench.bundle), result("--mask", str(mask))
            row = compared(Measured(**ours[operation]), Measured(**bare[operation]))
            yield row | ({"run": ours["run"]["seconds"], "states": ours["states"]} if operation == "run" else {})


CASES: dict[str, Callable[[Bench], Iterator[Row]]] = {
    f"run of {STEPS} steps": long_run,
    "morphology slider": slider,
    "next image": partial(queue, key=DEFAULT.next),
    "accept, next image": partial(queue, key=DEFAULT.accept),
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
                    "ratio": ours / bare,
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
                    f"{row['median' + BARE] * 1000:7.0f} ms, difference {row['difference'] * 1000:+7.0f} ms, ratio "
                    f"{row['ratio']:5.2f}; worst {row['worst'] * 1000:.0f} and {row['worst' + BARE] * 1000:.0f} ms",
                    flush=True,
                )
        run = describe_run(bench.dock._runner._cache.predictor(options.bundle, "auto"))
        for viewer in (bench.ours, bench.bare):
            viewer.napari.close()
    about = {"frame": [HEIGHT, WIDTH], "phantoms from seed": SEED, "seeds": [0], "rounds": options.rounds}
    write_json(options.json, summarise(rows), rows, run | about, " ".join(["python", *sys.argv]))


if __name__ == "__main__":
    main()
