"""Labels for text that may be long: paths, names of images and classes never make the dock wider."""

from __future__ import annotations

import re

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel
from superqt import QElidingLabel

# A word that a line of a narrow dock may not hold, and after what it can be broken.
_LONG_WORD, _PLACE = re.compile(r"\S{24,}"), re.compile(r"_|[^_]{16}")
BREAK = "\u200b"  # of no width; a line may end there


class Wrapped(QLabel):
    """Plain text in as many lines as it takes; unlike a bare label's, long words are broken, too."""

    def __init__(self, text: str = "") -> None:
        super().__init__()
        self._text = ""
        self.setWordWrap(True)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setText(text)

    def setText(self, text: str) -> None:  # noqa: N802
        """Show ``text``."""
        self._text = text
        super().setText(_LONG_WORD.sub(lambda word: _PLACE.sub(rf"\g<0>{BREAK}", word[0]), text))

    def text(self) -> str:
        """Return the text as it was given."""
        return self._text


class StatusLine(Wrapped):
    """What is going on, with room for two lines, so that nothing jumps when a longer message comes."""

    def __init__(self) -> None:
        super().__init__()
        self.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
        self.setMinimumHeight(3 * self.fontMetrics().lineSpacing())  # the viewer's style adds to two lines

    def say(self, text: str, tooltip: str = "") -> None:
        """Show a message; ``tooltip`` holds the whole story when there is more to it."""
        self.setText(text)
        self.setToolTip(tooltip or text)


def elided() -> QElidingLabel:
    """Return a label of one line, whose text loses its middle where it is too long."""
    label = QElidingLabel()
    label.setElideMode(Qt.TextElideMode.ElideMiddle)
    label.setEllipsesWidth(8)  # what a label keeps free at its sides
    return label
