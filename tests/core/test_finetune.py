"""Learning from accepted masks, with tiny networks on phantoms."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lsegdiff_core.accepted import accepted_masks
from lsegdiff_core.bundle import load_networks, read_manifest
from lsegdiff_core.comparison import Comparison, Progress, read_comparison
from lsegdiff_core.data.phantom import draw_phantom
from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.finetune import finetune
from lsegdiff_core.predictor import Predictor
from lsegdiff_core.project import Project


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of nine phantoms, eight of them accepted; it stays open, as it is while the dock learns."""
    folder = tmp_path / "frames"
    folder.mkdir()
    frames = [draw_phantom(index, 64, 80, polyp=index != 3) for index in range(9)]
    for index, frame in enumerate(frames):
        Image.fromarray(frame.image).save(folder / f"{index}.png")
    made = Project.of_folder(folder)
    for index, frame in enumerate(frames):
        about = {"objects": [{"id": 1, "class": "polyp"}, {"id": 2, "class": "instrument"}]}
        labels = frame.mask.astype(np.uint8)
        labels[:5, :5] = 2
        made.save(str(index), labels, None, about, accepted=index != 5, seconds=1.0)
    yield made.folder
    made.close()


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_a_new_bundle_is_written_beside_the_old_one_and_compared_with_it(
    project: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    before, out = hashes(tiny_bundle), tmp_path / "models" / "mine"
    course = list(finetune(project, str(tiny_bundle), out, steps=6))
    assert [(step.stage, step.done) for step in course] == [
        ("learning", 5),
        *(("comparing", done) for done in (1, 2, 3, 4)),
    ]
    assert hashes(tiny_bundle) == before
    assert [path.name for path in out.parent.iterdir()] == ["mine"], "work is left behind"
    manifest, networks = load_networks(out)
    old_manifest, old = load_networks(tiny_bundle)
    for name, network in networks.components.items():
        same = all(value.equal(old.components[name].state_dict()[key]) for key, value in network.state_dict().items())
        assert same == (name == "vae"), name
    assert manifest.model == old_manifest.model
    assert manifest.training["learnt_from"] == ["0", "1", "2", "4", "6", "7"]
    comparison = read_comparison(out)
    assert comparison.names == ("3", "8")
    assert Predictor(str(out), "cpu").manifest.name == f"{old_manifest.name}-tuned"


def test_objects_of_other_classes_are_background(project: Path) -> None:
    masks = {name: mask for name, _, mask in accepted_masks(project, ["polyp"])}
    assert list(masks) == ["0", "1", "2", "3", "4", "6", "7", "8"]
    assert not masks["3"].any()
    assert not masks["0"][:5, :5].any()
    assert masks["0"].any()


def test_it_needs_enough_masks_and_a_new_folder(project: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(LSegDiffError, match="exists already; give the new model another name"):
        next(finetune(project, str(tiny_bundle), tmp_path))
    about = json.loads((project / "lsegdiff-project.json").read_text())
    about["items"][0]["status"] = "skipped"
    (project / "lsegdiff-project.json").write_text(json.dumps(about))
    with pytest.raises(LSegDiffError, match="7 masks are accepted; accept at least 8"):
        next(finetune(project, str(tiny_bundle), tmp_path / "mine"))
    assert not list(tmp_path.glob(".mine*"))


def test_stopped_it_leaves_nothing(project: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    course = finetune(project, str(tiny_bundle), tmp_path / "mine", steps=6)
    assert next(course) == Progress("learning", 5, 6)
    course.close()
    assert not list(tmp_path.glob("*mine*"))


def test_a_bundle_that_learnt_from_nobody_has_no_comparison(tiny_bundle: Path) -> None:
    assert "held_out" not in read_manifest(tiny_bundle).training
    with pytest.raises(LSegDiffError, match="was not made by finetune"):
        read_comparison(tiny_bundle)


def test_progress_and_comparison_read_well() -> None:
    assert Progress.parse("learning 20/300\n") == Progress("learning", 20, 300)
    assert Progress.parse("wrote     models/mine") is None
    comparison = Comparison(("a", "b", "c"), (0.5, 0.9, 1.0), (0.8, 0.8, 1.0))
    assert str(comparison) == "Dice 0.800 before, 0.867 after on 3 masks held out; 1 better, 1 worse"
