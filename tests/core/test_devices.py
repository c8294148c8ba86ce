"""Which device is meant by its name."""

from __future__ import annotations

import pytest
import torch

from lsegdiff_core.devices import resolve_device
from lsegdiff_core.errors import LSegDiffError


@pytest.mark.parametrize("name", ["tpu", "cuda", "mps"])
def test_a_device_that_is_not_there_is_said(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(LSegDiffError, match=rf"device: .*'{name}'.*choose auto"):
        resolve_device(name)
