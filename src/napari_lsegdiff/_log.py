"""The log of one session: the last lines of what plugin and core said, without any path."""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import Callable

LINES = 200
LOGGERS = ("lsegdiff_core", "napari_lsegdiff")

# A path may name a patient. Where it ends cannot be known, since it may hold spaces: the rest of the line goes with it.
_PATH = re.compile(r"(?<!\w)(?:~|\.{1,2}|[A-Za-z]:)?[\\/](?=\S).*|\S+[\\/](?=[^\W\d]\w).*")


class SessionLog(logging.Handler):
    """Keeps the newest lines; records of the project must not name images, those of errors that might are cut.

    Parameters
    ----------
    told
        Called after every line, in whatever thread wrote it.
    """

    def __init__(self, told: Callable[[], None]) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%H:%M:%S"))
        self.lines: deque[str] = deque(maxlen=LINES)
        self._told = told
        self._levels = {name: logging.getLogger(name).level for name in LOGGERS}
        for name in LOGGERS:
            logger = logging.getLogger(name)
            logger.setLevel(logging.INFO)
            logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one record as one line."""
        self.lines.append(_PATH.sub("…", " ".join(self.format(record).split())))
        self._told()

    def close(self) -> None:
        """Stop listening; the lines stay."""
        for name, level in self._levels.items():
            logger = logging.getLogger(name)
            logger.removeHandler(self)
            logger.setLevel(level)
        super().close()
