"""What stands in a journal; whether all of it can be read again is asked in test_journal.py."""

from __future__ import annotations

import zlib

import numpy as np

from lsegdiff_core.journal_format import ImageId, Values, change


def test_a_stroke_takes_few_bytes() -> None:
    image = ImageId(1, "polyp", None, None, (1080, 1920))
    y, x = np.mgrid[:1080, :1920]
    where = np.flatnonzero(np.hypot(y - 500, x - 900) < 200)
    text = change(image, (), Values(where, np.ones(where.size, np.uint8)), None, None, 0)["pixels"]
    assert len(text) < 4000
    assert len(zlib.compress(where.astype(np.uint32).tobytes(), 1)) > 20 * len(text)
