"""``python -m napari_lsegdiff.demo``: napari with an image, the dock and a mask."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import napari
from qtpy.QtCore import QTimer

from lsegdiff_core.data.images import read_image
from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.files import write_atomically
from napari_lsegdiff._sample_data import synthetic_polyp
from napari_lsegdiff._widget import SegmentationDock

# the canvas draws in its own time; a picture taken at once may miss the mask
SETTLE = 500
SIZE = (1280, 860)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo and return the exit code: 0, or 1 if there is no mask."""
    parser = argparse.ArgumentParser(prog="python -m napari_lsegdiff.demo", description=__doc__)
    parser.add_argument("--image", type=Path, help="image file (default: the synthetic polyp)")
    parser.add_argument("--bundle", help="name or folder of the model (default: the one that is shown first)")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder of the screenshot (default: demo)")
    parser.add_argument("--screenshot", action="store_true", help="write OUT/viewer.png and exit")
    options = parser.parse_args(arguments)
    try:
        if options.image is None:
            data, attributes, _ = synthetic_polyp()[0]
        else:
            data, attributes = read_image(options.image), {"name": options.image.stem}
    except LSegDiffError as error:
        print(error, file=sys.stderr)
        return 1
    viewer = napari.Viewer()
    viewer.window.resize(*SIZE)
    viewer.add_image(data, **attributes)
    dock = SegmentationDock(viewer)
    viewer.window.add_dock_widget(dock, name="LSegDiff", area="right")
    if options.bundle:
        dock.choices.choose(options.bundle)
    # the dock has made the canvas narrower
    QTimer.singleShot(0, viewer.reset_view)
    code = 0

    def close(good: bool) -> None:
        nonlocal code
        if dock.comparing:  # the gallery would say so in the picture
            QTimer.singleShot(SETTLE, partial(close, good))
            return
        if good:
            path = options.out / "viewer.png"
            try:
                write_atomically(
                    path, lambda temporary: viewer.screenshot(str(temporary), canvas_only=False, flash=False)
                )
                print(f"viewer    {path}")
            except LSegDiffError as error:
                good = False
                print(error, file=sys.stderr)
        else:
            print(dock.status, file=sys.stderr)
        code = 0 if good else 1
        viewer.close()

    if options.screenshot:
        dock.finished.connect(lambda good: QTimer.singleShot(SETTLE, partial(close, good)))
    QTimer.singleShot(0, dock.run)
    napari.run()
    return code


if __name__ == "__main__":
    sys.exit(main())
