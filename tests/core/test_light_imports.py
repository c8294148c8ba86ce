import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "module",
    [
        "",
        ".config",
        ".files",
        ".journal",
        ".journal_format",
        ".hints",
        ".prediction",
        ".hypotheses",
        ".metrics",
        ".morphology",
        ".drawing",
        ".cli_options",
        ".doctor",
        ".memory",
        ".allocator",
        ".data.readers",
        ".data.splits",
        ".data.images",
        ".data.geometry",
        ".data.phantom",
        ".data.phantom_skin",
        ".data.phantom_video",
    ],
)
def test_module_loads_without_torch_and_napari(module: str) -> None:
    heavy = "[m for m in ('torch', 'napari', 'qtpy') if m in sys.modules]"
    code = f"import sys, lsegdiff_core{module}; sys.exit(str({heavy}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == "[]"
