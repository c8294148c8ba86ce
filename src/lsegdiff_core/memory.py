"""How much memory is in use, what to do when there is too little, and giving it back; loads no torch."""

from __future__ import annotations

import ctypes
import gc
import sys
from typing import NamedTuple

import psutil

# What torch's allocators and libraries say, in lower case.
_SAID = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")


class Memory(NamedTuple):
    """Bytes in use: resident in this process, and reserved on the GPU; None without one."""

    process: int
    gpu: int | None

    def __str__(self) -> str:
        text = f"{self.process / 2**20:,.0f} MB"
        return text if self.gpu is None else f"{text}, GPU {self.gpu / 2**20:,.0f} MB"


def memory_in_use() -> Memory:
    """Return what this process holds."""
    torch = sys.modules.get("torch")
    gpu = None
    if torch is not None and torch.cuda.is_initialized():
        gpu = torch.cuda.memory_reserved()
    elif torch is not None and torch.backends.mps.is_available():
        gpu = torch.mps.driver_allocated_memory()
    return Memory(psutil.Process().memory_info().rss, gpu)


def ran_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception says that there was not enough memory, on the CPU or on a GPU."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(said in text for said in _SAID))


def release_memory() -> None:
    """Give memory that nothing uses any more back to the system and to other programs on the GPU."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    elif torch is not None and torch.backends.mps.is_available():
        torch.mps.empty_cache()
    if sys.platform.startswith("linux"):
        # glibc keeps what is free, all the more after `lsegdiff_core.allocator.keep_large_buffers`
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
