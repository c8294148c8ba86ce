"""Images as users have them, and the controller, without Qt."""

from __future__ import annotations

import tracemalloc

import dask.array
import numpy as np
import pytest

from lsegdiff_core.config import MorphologyConfig, SamplingConfig
from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.predictor import Predictor
from napari_lsegdiff._frames import current_frame, new_labels
from napari_lsegdiff._objects import METADATA, list_objects
from napari_lsegdiff._session import Session
from napari_lsegdiff._worker import Devices, Failed, Finished, PredictorCache, Preview, Request, Stage, segment


@pytest.fixture
def segmented(session: Session, bundle: str, calls):
    """Run the worker's generator on an image layer in this thread and write its mask."""
    cache = PredictorCache()

    def run(image):
        job = session.job(image)
        updates = list(segment(cache, Request(job, bundle, "cpu", SamplingConfig(steps=2))))
        last = updates[-1]
        if isinstance(last, Failed):
            raise LSegDiffError(last.line)
        assert isinstance(last, Finished)
        number = session.accept(job, last.prediction)
        assert number is not None
        assert session.write(session.refinement(job, MorphologyConfig(), number)())
        return session.mask_layer(image)

    return run


PICTURES = {
    "grey": np.full((60, 80), 120, np.uint8),
    "rgb": np.full((60, 80, 3), 120, np.uint8),
    "rgba": np.full((60, 80, 4), 120, np.uint8),
    "16 bit": np.full((60, 80), 40_000, np.uint16),
    "float to 1": np.full((60, 80), 0.5, np.float32),
    "float to 255": np.full((60, 80, 3), 140.0, np.float64),
    "tiny": np.full((24, 24), 120, np.uint8),
    "large": np.broadcast_to(np.uint8(120), (3000, 4000, 3)),
    "one row of pixels": np.full((1, 40), 120, np.uint8),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_pictures(kind, add_image, segmented, session):
    data = PICTURES[kind]
    kwargs = {"rgb": data.shape[-1] in (3, 4)}
    if kind == "float to 255":
        kwargs["contrast_limits"] = (0, 255)
    image = add_image(data, name=kind, **kwargs)
    labels = segmented(image)
    assert labels.name == f"{kind} mask"
    assert labels.data.shape == data.shape[:2]
    assert labels.data.dtype == np.uint8
    assert labels in session._viewer.layers
    # a disc in the middle: the mask lies where the prediction says
    assert labels.data[data.shape[0] // 2, data.shape[1] // 2] == 1
    assert set(np.unique(labels.data)) <= {0, 1}


@pytest.mark.parametrize("kind", ["rgba", "float in 0 to 255", "float in 0 to 1", "16 bit"])
def test_rgba_and_float_images_reach_the_model_as_the_8_bit_picture(kind, add_image, session, bundle, calls):
    picture = np.random.default_rng(0).integers(0, 256, (60, 80, 4), dtype=np.uint8)
    alpha, picture = picture[..., 3:], picture[..., :3]
    pixels = {
        "rgba": np.concatenate([picture, alpha], axis=2),
        "float in 0 to 255": picture.astype(np.float32),
        "float in 0 to 1": (picture / 255).astype(np.float32),
        "16 bit": picture.astype(np.uint16) * 257,
    }
    hashes = []
    for data in (picture, pixels[kind]):
        image = add_image(data, rgb=True, contrast_limits=(0, 255))
        last = list(segment(PredictorCache(), Request(session.job(image), bundle, "cpu", SamplingConfig(steps=1))))[-1]
        hashes.append(last.prediction.source["image"]["sha256"])
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize("colour", [False, True])
def test_scale_translate_and_affine_are_kept_on_the_mask(add_image, segmented, colour):
    data = np.full((60, 80, 3) if colour else (60, 80), 120, np.uint8)
    affine = np.array([[1.1, 0.1, 3], [0, 0.9, -2], [0, 0, 1]])
    image = add_image(
        data, rgb=colour, scale=(0.5, 2), translate=(10, -7), rotate=30, shear=[0.2], affine=affine, units=("um", "um")
    )
    labels = segmented(image)
    assert labels.units == image.units
    for corner in ((0, 0), (59, 79), (13, 5)):
        np.testing.assert_allclose(labels.data_to_world(corner), image.data_to_world(corner), atol=1e-9)


@pytest.mark.parametrize("colour", [False, True])
def test_lazy_stack_reads_and_writes_one_frame(add_image, segmented, session, colour):
    asked = []

    def load(block_info=None):
        asked.append(block_info[None]["chunk-location"][0])
        return np.full(block_info[None]["chunk-shape"], 50 * asked[-1] + 50, np.uint8)

    shape = (3, 40, 50, 3) if colour else (3, 40, 50)
    stack = dask.array.map_blocks(load, chunks=((1, 1, 1), *((n,) for n in shape[1:])), dtype=np.uint8)
    image = add_image(stack, rgb=colour, scale=(2.5, 1, 1), translate=(100, 0, 0), contrast_limits=(0, 255))
    # a neighbour that lies elsewhere makes the viewer's step differ from the layer's frame
    add_image(np.zeros((9, 40, 50), np.uint8), translate=(90, 0, 0))
    session._viewer.dims.set_point(0, 102.5)
    assert current_frame(session._viewer, image) == (1,)
    asked.clear()
    labels = segmented(image)
    assert set(asked) <= {1}
    assert type(labels.data) is np.ndarray
    assert labels.data.shape == (3, 40, 50)
    assert labels.data[1].any()
    assert not labels.data[[0, 2]].any()
    np.testing.assert_array_equal(labels.scale, image.scale)
    np.testing.assert_array_equal(labels.translate, image.translate)

    first = labels.data[1].copy()
    session._viewer.dims.set_point(0, 105)
    assert segmented(image) is labels
    assert labels.data[2].any()
    np.testing.assert_array_equal(labels.data[1], first)
    labels.undo()
    assert not labels.data[2].any()
    assert session.provenance(image, (2,)) is None


def test_lazy_stack_is_never_in_memory_as_a_whole(add_image, segmented):
    stack = dask.array.full((100, 200, 300, 3), 0.5, chunks=(1, 200, 300, 3), dtype=np.float64)
    tracemalloc.start()
    labels = segmented(add_image(stack, rgb=True, contrast_limits=(0, 1)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert labels.data.any()
    assert labels.data.nbytes < peak < stack.nbytes / 4


def test_dask_labels_in_the_masks_place_are_left_alone(add_image, session, predict):
    image = add_image(np.zeros((40, 50), np.uint8), name="a")
    job = session.job(image)
    refined = session.refinement(job, MorphologyConfig(), session.accept(job, predict((40, 50))))()
    session.write(refined)
    old = session.mask_layer(image)
    old.data = dask.array.from_array(old.data)
    assert session.write(refined)
    new = session.mask_layer(image)
    assert new is not old
    assert isinstance(new.data, np.ndarray)
    np.testing.assert_array_equal(new.data, np.asarray(old.data))


def test_multiscale_is_segmented_at_full_size(add_image, segmented):
    full = np.full((60, 80), 120, np.uint8)
    labels = segmented(add_image([full, full[::2, ::2]], multiscale=True, scale=(2, 2)))
    assert labels.data.shape == (60, 80)
    assert labels.data[30, 40] == 1
    np.testing.assert_array_equal(labels.scale, (2, 2))


def test_time_and_depth(add_image, segmented, session):
    image = add_image(np.full((2, 3, 40, 50), 120, np.uint8))
    session._viewer.dims.current_step = (1, 2, 0, 0)
    labels = segmented(image)
    assert labels.data[1, 2].any()
    assert labels.data.sum() == labels.data[1, 2].sum()


def test_a_huge_stack_lies_on_disk(add_image, monkeypatch):
    monkeypatch.setattr("napari_lsegdiff._frames.MEMORY_LIMIT", 1000)
    image = add_image(np.zeros((3, 40, 50), np.uint8))
    labels = new_labels(image, (1,), np.ones((40, 50), np.uint8))
    assert isinstance(labels.data, np.memmap)
    labels.data_setitem((np.array([2]), np.array([1]), np.array([1])), 1)
    assert labels.data[2, 1, 1] == 1


@pytest.mark.parametrize(
    ("data", "kwargs", "words"),
    [
        (np.full((30, 30), np.nan, np.float32), {}, "NaN"),
        (np.zeros((60, 50, 3), np.uint8), {"rgb": False}, "rgb=True"),
        (np.zeros((60, 50, 4), np.uint8), {"rgb": False}, "rgb=True"),
        (np.zeros((2, 60, 50, 3), np.uint8), {"rgb": False}, "rgb=True"),
    ],
)
def test_what_is_no_picture_is_said_in_one_line(add_image, segmented, data, kwargs, words):
    image = add_image(data, contrast_limits=(0, 1), **kwargs)
    with pytest.raises(LSegDiffError, match=words) as error:
        segmented(image)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("change", [{"ndisplay": 3}, {"order": (1, 0, 2)}, {"order": (2, 1, 0)}])
def test_frame_axis_on_the_canvas_is_not_taken_for_height_or_width(add_image, session, change):
    image = add_image(np.zeros((3, 40, 50), np.uint8))
    session._viewer.dims.update(change)
    with pytest.raises(LSegDiffError, match="its frame axis is on the canvas; show it in 2-D"):
        session.job(image)


def test_axes_that_are_shown_the_other_way_round_are_not_exchanged(add_image, session, predict):
    image = add_image(np.zeros((3, 40, 50), np.uint8))
    session._viewer.dims.order = (0, 2, 1)
    session._viewer.dims.set_point(0, 2)
    job = session.job(image)
    assert job.frame == (2,)
    prediction = predict((40, 50), (0.2, 0.5))
    session.write(session.refinement(job, MorphologyConfig(), session.accept(job, prediction))())
    np.testing.assert_array_equal(session.mask_layer(image).data[2], prediction.labels)


def test_provenance_follows_strokes_and_undo(add_image, session, predict):
    image = add_image(np.zeros((40, 50), np.uint8))
    job = session.job(image)
    run = session.accept(job, predict((40, 50)))
    for threshold in (0.5, 0.7):
        session.write(session.refinement(job, MorphologyConfig(threshold=threshold), run)())
    labels = session.mask_layer(image)
    known = session.provenance(image, ())
    assert known["morphology"]["threshold"] == 0.7
    assert known["edited"] is False
    labels.data_setitem((np.array([0]), np.array([0])), 1)
    assert session.provenance(image, ())["edited"] is True
    assert labels.metadata[METADATA][()]["edited"] is True
    labels.undo()
    labels.undo()
    assert session.provenance(image, ())["morphology"]["threshold"] == 0.5
    assert labels.metadata[METADATA][()]["edited"] is False


def test_over_the_background_the_viewer_says_nothing_empty(add_image, segmented):
    labels = segmented(add_image(np.full((60, 80), 120, np.uint8)))
    assert labels.data[0, 0] == 0
    assert labels.get_status((0, 0))["coordinates"].endswith("0; class: none, name: background, colour: none")
    assert "class: polyp, name: polyp 1, colour: #" in labels.get_status((30, 40))["coordinates"]
    # and no object gets the background's class
    list_objects(labels, [2])
    assert list(labels.features["class"]) == ["none", "polyp", "polyp"]


def test_forget_strokes_and_export(add_image, session, predict, tmp_path):
    image = add_image(np.zeros((40, 50), np.uint8), name="a")
    with pytest.raises(LSegDiffError, match="press Run"):
        session.export(image, tmp_path / "a.png", "png")
    job = session.job(image)
    assert not session.forget_strokes(job)
    run = session.accept(job, predict((40, 50)))
    session.write(session.refinement(job, MorphologyConfig(threshold=0.6), run)())
    labels = session.mask_layer(image)
    model = labels.data.copy()
    labels.data_setitem((np.array([0]), np.array([0])), 1)
    assert session.forget_strokes(job)
    np.testing.assert_array_equal(labels.data, model)
    session.export(image, tmp_path / "a.png", "png")
    assert (tmp_path / "a.png").is_file()


def test_removed_layers_are_forgotten(add_image, session, predict):
    image = add_image(np.zeros((40, 50), np.uint8), name="a")
    job = session.job(image)
    run = session.accept(job, predict((40, 50)))
    refined = session.refinement(job, MorphologyConfig(), run)()
    session.write(refined)
    session._viewer.layers.remove("a mask")
    assert session.mask_layer(image) is None
    session.write(refined)
    assert "a mask" in session._viewer.layers
    session._viewer.layers.remove(image)
    assert session.refinement(job, MorphologyConfig(), run) is None
    assert session.accept(job, predict((40, 50))) is None
    assert session.write(refined)
    with pytest.raises(LSegDiffError, match="removed"):
        session.job(image)


def test_worker_says_each_stage_and_encodes_once(add_image, session, bundle, calls):
    image = add_image(np.full((40, 50), 90, np.uint8))
    cache = PredictorCache()
    request = Request(session.job(image), bundle, "cpu", SamplingConfig(steps=3))
    updates = list(segment(cache, request))
    assert [update.done for update in updates if isinstance(update, Stage) and update.total] == [0, 1, 2, 3]
    assert any(isinstance(update, Devices) and "cpu" in update.names for update in updates)
    list(segment(cache, request))
    assert (calls.encode, calls.denoise) == (1, 6)


def test_preview_is_not_drawn_more_than_ten_times_a_second(add_image, session, bundle, calls, monkeypatch):
    monkeypatch.setattr("napari_lsegdiff._worker.monotonic", lambda: 0.02 * calls.denoise)
    job = session.job(add_image(np.full((40, 50), 90, np.uint8)))
    updates = list(segment(PredictorCache(), Request(job, bundle, "cpu", SamplingConfig(steps=50))))
    assert 3 <= sum(isinstance(update, Preview) for update in updates) <= 5  # in one second, the first half without


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), "Out of memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "Out of memory"),
        (RuntimeError("first\nsecond"), "Failed: first (RuntimeError)"),
        (LSegDiffError("a: wrong; mend it"), "a: wrong; mend it"),
    ],
)
def test_failures_are_yielded(add_image, session, bundle, calls, monkeypatch, error, line):
    def fail(self, *args):
        raise error

    monkeypatch.setattr(Predictor, "decode", fail)
    image = add_image(np.full((40, 50), 90, np.uint8))
    last = list(segment(PredictorCache(), Request(session.job(image), bundle, "cpu", SamplingConfig(steps=1))))[-1]
    assert isinstance(last, Failed)
    assert last.line.startswith(line)
