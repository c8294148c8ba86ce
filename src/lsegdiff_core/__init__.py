"""Latent diffusion segmentation: the core, without Qt and without napari.

Importing this package loads neither torch nor any other heavy library; they
load with the module that needs them (``lsegdiff_core.predictor`` for torch).
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("napari-lsegdiff")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"
