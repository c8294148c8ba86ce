from time import monotonic, sleep

from qtpy.QtCore import QObject

from napari_lsegdiff._progress import PACE, REST, Paced, ProgressBar


def test_the_first_is_shown_at_once_and_of_those_that_follow_quickly_the_newest(qtbot):
    shown, owner = [], QObject()
    paced = Paced(shown.append, owner)
    for number in range(5):
        paced(number)
    assert shown == [0]
    qtbot.waitUntil(lambda: len(shown) > 1)
    assert shown == [0, 4]
    qtbot.wait(2 * PACE)
    paced(5)
    assert shown == [0, 4, 5], "after a while the next is a first one again"


def test_what_was_dropped_never_comes_and_the_next_is_shown_at_once(qtbot):
    shown, owner = [], QObject()
    paced = Paced(shown.append, owner)
    for text in ("first", "late"):
        paced(text)
    paced.drop()
    paced("new")
    qtbot.wait(2 * PACE)
    assert shown == ["first", "new"]


def test_a_slow_drawing_leaves_the_window_most_of_the_time(qtbot):
    began, owner = [], QObject()

    class Slow(ProgressBar):
        def paintEvent(self, event):  # noqa: N802
            sleep(PACE / 1000)  # as slow as the pace: shown again at once, nothing else would find its time

    bar = Slow()
    qtbot.addWidget(bar)
    bar.show()
    qtbot.waitUntil(bar.isVisible)
    qtbot.wait(3 * PACE)

    def show(number):
        began.append(monotonic())
        bar.show_progress(number, 8)  # is painted later

    paced = Paced(show, owner)
    paced(1)
    qtbot.wait(1)
    paced(2)
    qtbot.waitUntil(lambda: len(began) > 1)
    assert began[1] - began[0] > REST * PACE / 1000


def test_the_bar_shows_what_it_is_told(qtbot):
    bar = ProgressBar()
    qtbot.addWidget(bar)
    bar.show_progress(3, 8)
    assert (bar.value(), bar.maximum(), bar.updatesEnabled()) == (3, 8, True)
    bar.show_progress(0, 0)
    assert (bar.minimum(), bar.maximum()) == (0, 0)


def test_the_bar_is_painted_with_the_next_frame(qtbot):
    painted = []

    class Watched(ProgressBar):
        def paintEvent(self, event):  # noqa: N802
            painted.append(self.value())
            super().paintEvent(event)

    bar = Watched()
    qtbot.addWidget(bar)
    bar.show()
    qtbot.waitUntil(lambda: bool(painted))
    qtbot.wait(50)
    painted.clear()
    for done in range(1, 4):
        bar.show_progress(done, 8)
    assert painted == []
    qtbot.waitUntil(lambda: painted[-1:] == [3])
