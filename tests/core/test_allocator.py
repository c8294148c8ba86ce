import ctypes
import subprocess
import sys

import pytest

from lsegdiff_core import allocator

# Take 64 MB, ask glibc for the number of blocks that are mapped and would go back to the system when freed.
PROBE = """
import ctypes, sys
from lsegdiff_core.allocator import keep_large_buffers
class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
                "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.mallinfo2.restype = Info
if sys.argv[1] == "keep":
    keep_large_buffers()
before = libc.mallinfo2().hblks
libc.malloc(ctypes.c_size_t(64 << 20))
print(libc.mallinfo2().hblks - before)
"""


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="needs glibc 2.33"
)
@pytest.mark.parametrize(("mode", "mapped"), [("keep", "0"), ("leave", "1")])
def test_large_buffers_stay_in_the_process(mode: str, mapped: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROBE, mode], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == mapped


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator.sys, "platform", "win32")
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: pytest.fail("looked for a C library"))
    allocator.keep_large_buffers()
