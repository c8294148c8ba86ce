from __future__ import annotations

import mmap
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch

from lsegdiff_core.config import SamplingConfig
from lsegdiff_core.data.phantom import draw_phantom
from lsegdiff_core.memory import Memory, memory_in_use, ran_out_of_memory, release_memory
from lsegdiff_core.predictor import Predictor

SAMPLING = SamplingConfig(steps=2, seeds=tuple(range(8)))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9.00 GB)"),
        RuntimeError("[enforce fail] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        MemoryError(),
    ],
)
def test_want_of_memory_is_known(error: Exception) -> None:
    assert ran_out_of_memory(error)


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), ValueError("out of memory"), KeyError("a")])
def test_other_failures_are_not_want_of_memory(error: Exception) -> None:
    assert not ran_out_of_memory(error)


def test_memory_in_use_is_that_of_this_process() -> None:
    size = 60_000_000
    before = memory_in_use().process
    # pages of its own: an allocator may have a freed block at hand, or keep this one
    with mmap.mmap(-1, size) as pages:
        for page in range(0, size, mmap.PAGESIZE):
            pages[page] = 1
        assert memory_in_use().process - before > 40_000_000
    release_memory()
    assert memory_in_use().process - before < 40_000_000


def test_memory_reads_well() -> None:
    assert str(Memory(1_234 * 2**20, None)) == "1,234 MB"
    assert str(Memory(50 * 2**20, 7 * 2**20)) == "50 MB, GPU 7 MB"


def test_memory_that_the_allocator_keeps_is_given_back() -> None:
    """Small buffers after `keep_large_buffers`; in a process of its own, since the setting lasts."""
    code = """
from lsegdiff_core.allocator import keep_large_buffers
from lsegdiff_core.memory import memory_in_use, release_memory
import numpy as np
keep_large_buffers()
kept = [np.ones(1_000_000, np.uint8) for _ in range(100)]
del kept
before = memory_in_use().process
release_memory()
print(before - memory_in_use().process)
"""
    if not sys.platform.startswith("linux"):
        pytest.skip("glibc only")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 60_000_000


class Small:
    """A network that has no room for more than ``room`` samples; keeps how many it was asked about."""

    def __init__(self, network: Callable[..., torch.Tensor], room: int) -> None:
        self.network, self.room, self.sizes = network, room, []

    def __call__(self, part: torch.Tensor, *rest: object) -> torch.Tensor:
        self.sizes.append(len(part))
        if len(part) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return self.network(part, *rest)


@pytest.fixture
def like_a_gpu(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> Predictor:
    """A predictor that takes all samples at once, with an image."""
    monkeypatch.setattr(predictor, "_take_all", lambda: setattr(predictor, "_most", None))
    predictor.set_image(draw_phantom(3, 48, 64).image)
    return predictor


@pytest.mark.parametrize(
    ("room", "sizes"), [(8, [8]), (4, [8, 4, 4]), (3, [8, 4, 2, 2, 2, 2]), (1, [8, 4, 2, *[1] * 8])]
)
def test_the_batch_is_halved_until_it_fits(
    like_a_gpu: Predictor, monkeypatch: pytest.MonkeyPatch, room: int, sizes: list[int]
) -> None:
    whole = like_a_gpu.predict(SAMPLING)
    assert whole.provenance["batch"] == 8
    small = Small(like_a_gpu.networks.denoiser.forward, room)
    monkeypatch.setattr(like_a_gpu.networks.denoiser, "forward", small)
    prediction = like_a_gpu.predict(SAMPLING)
    assert small.sizes[: len(sizes)] == sizes
    assert max(small.sizes[len(sizes) :]) <= room, "what did not fit is tried again in the second step"
    assert prediction.provenance["batch"] == sizes[-1]
    np.testing.assert_allclose(prediction.probability, whole.probability, atol=1e-4)
    # the next run starts anew
    small.room = 8
    assert like_a_gpu.predict(SAMPLING).provenance["batch"] == 8


def test_the_decoder_is_halved_too(like_a_gpu: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = like_a_gpu.predict(SAMPLING)
    small = Small(like_a_gpu.networks.vae.decode, 2)
    monkeypatch.setattr(like_a_gpu.networks.vae, "decode", small)
    prediction = like_a_gpu.predict(SAMPLING)
    assert prediction.provenance["batch"] == 2
    np.testing.assert_allclose(prediction.probability, whole.probability, atol=1e-4)


def test_when_one_sample_does_not_fit_it_fails(like_a_gpu: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    small = Small(like_a_gpu.networks.denoiser.forward, 0)
    monkeypatch.setattr(like_a_gpu.networks.denoiser, "forward", small)
    with pytest.raises(torch.OutOfMemoryError):
        like_a_gpu.predict(SAMPLING)
    assert small.sizes == [8, 4, 2, 1]


def test_other_errors_are_not_tried_again(like_a_gpu: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fail(*args: object) -> None:
        asked.append(1)
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(like_a_gpu.networks.denoiser, "forward", fail)
    with pytest.raises(RuntimeError, match="shapes differ"):
        like_a_gpu.predict(SAMPLING)
    assert asked == [1]


def test_the_cpu_takes_one_at_a_time(predictor: Predictor) -> None:
    predictor.set_image(draw_phantom(3, 48, 64).image)
    assert predictor.predict(SAMPLING).provenance["batch"] == 1
