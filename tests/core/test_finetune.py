"""Learning from accepted masks, with tiny networks on phantoms."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lsegdiff_core.accepted import accepted_masks, painted
from lsegdiff_core.bundle import load_networks, read_manifest, write_manifest
from lsegdiff_core.comparison import Comparison, Progress, clear_leftovers, read_comparison, working
from lsegdiff_core.data.phantom import draw_phantom
from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.finetune import finetune
from lsegdiff_core.predictor import Predictor
from lsegdiff_core.project import Project
from lsegdiff_core.project_file import FILE, read_project_file
from lsegdiff_core.training import run
from lsegdiff_core.training.config import TrainConfig
from lsegdiff_core.training.loop import Report


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
    assert [path.name for path in out.parent.iterdir() if path.suffix != ".lock"] == ["mine"], "work is left behind"
    manifest, networks = load_networks(out)
    old_manifest, old = load_networks(tiny_bundle)
    for name, network in networks.components.items():
        same = all(value.equal(old.components[name].state_dict()[key]) for key, value in network.state_dict().items())
        assert same == (name == "vae"), name
    assert manifest.model == old_manifest.model
    assert manifest.training["learnt_from"] == ["0", "1", "2", "4", "6", "7"]
    comparison = read_comparison(out)
    assert comparison.names == ("3", "8")
    assert Predictor(str(out), "cpu").manifest.name == "mine"


def note(bundle: Path, copy: Path, **training: object) -> Path:
    """Copy a bundle and write into its ``training``."""
    shutil.copytree(bundle, copy)
    manifest = read_manifest(copy)
    write_manifest(copy, dataclasses.replace(manifest, training=manifest.training | training))
    return copy


def accept(project: Path, name: str) -> None:
    """Accept one image more, as the session that has the project open does."""
    about = json.loads((project / FILE).read_text())
    item = next(item for item in about["items"] if item["name"] == name)
    item["status"] = "accepted"
    (project / FILE).write_text(json.dumps(about))
    (project / "masks" / f"{name}.png").write_bytes((project / "drafts" / f"{name}.png").read_bytes())


def test_what_a_model_has_learnt_from_is_never_held_out(project: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    list(finetune(project, str(tiny_bundle), first, steps=1))
    assert read_comparison(first).names == ("3", "8")
    accept(project, "5")  # from here on every fourth would be the seventh image, which was learnt from
    list(finetune(project, str(first), second, steps=1))
    assert read_comparison(second).names == ("3", "5")
    training = read_manifest(second).training
    assert training["learnt_from"] == ["0", "1", "2", "4", "6", "7", "8"]
    # what the model before the last one has learnt from is remembered, though it is accepted no more
    about = json.loads((project / FILE).read_text())
    about["items"] = about["items"][1:]
    (project / FILE).write_text(json.dumps(about))
    list(finetune(project, str(second), third, steps=1))
    assert read_comparison(third).names == ("3", "5")
    assert set(read_manifest(third).training["learnt_images"]) == {
        hashlib.sha256((project.parent / f"{name}.png").read_bytes()).hexdigest() for name in "0124678"
    }


def test_an_earlier_version_noted_names_alone(project: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    old = note(tiny_bundle, tmp_path / "old", learnt_from=["3", "4"])
    list(finetune(project, str(old), tmp_path / "mine", steps=1))
    assert read_comparison(tmp_path / "mine").names == ("2", "8")


def test_images_of_the_same_names_elsewhere_are_others(project: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    strange = [hashlib.sha256(bytes([index])).hexdigest() for index in range(9)]
    old = note(tiny_bundle, tmp_path / "old", learnt_from=list("012345678"), learnt_images=strange)
    list(finetune(project, str(old), tmp_path / "mine", steps=1))
    assert read_comparison(tmp_path / "mine").names == ("3", "8")
    assert set(strange) < set(read_manifest(tmp_path / "mine").training["learnt_images"])


@pytest.mark.parametrize(
    ("noted", "message"),
    [
        ({"learnt_from": list("0124567")}, None),
        ({"learnt_from": list("01245678")}, "learnt from most of the 8 accepted masks, which leaves 1 to compare on"),
        ({"learnt_images": "0"}, r"bundle\.json: training\.learnt_images: expected a list of texts"),
        ({"learnt_from": [0]}, r"bundle\.json: training\.learnt_from: expected a list of texts"),
    ],
)
def test_it_needs_masks_to_compare_on(
    project: Path, tiny_bundle: Path, tmp_path: Path, noted: dict[str, object], message: str | None
) -> None:
    course = finetune(project, str(note(tiny_bundle, tmp_path / "old", **noted)), tmp_path / "mine", steps=6)
    if message is None:
        next(course)
        course.close()
    else:
        with pytest.raises(LSegDiffError, match=message):
            next(course)
    assert not list(tmp_path.glob(".mine*"))


def test_image_that_is_gone_is_named(project: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    (project.parent / "1.png").unlink()
    with pytest.raises(LSegDiffError, match=r"frames/1\.png: cannot be read \(No such file or directory\); bring"):
        next(finetune(project, str(tiny_bundle), tmp_path / "mine"))


def test_objects_of_other_classes_are_background(project: Path) -> None:
    masks = {name: mask for name, _, mask in accepted_masks(project, ["polyp"])}
    assert list(masks) == ["0", "1", "2", "3", "4", "6", "7", "8"]
    assert not masks["3"].any()
    assert not masks["0"][:5, :5].any()
    assert masks["0"].any()


def test_masks_that_the_user_painted_on_are_counted(project: Path) -> None:
    items = read_project_file(project).items
    assert painted(project, items) == 0
    for name in ("1", "5"):  # that one is not accepted
        folder = project / ("drafts" if name == "5" else "masks")
        about = json.loads((folder / f"{name}.provenance.json").read_text())
        (folder / f"{name}.provenance.json").write_text(json.dumps({**about, "changed": 0.01}))
    (project / "masks" / "2.provenance.json").unlink()
    assert painted(project, items) == 1


def test_it_needs_enough_masks_and_a_new_folder(project: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(LSegDiffError, match="exists already; give the new model another name"):
        next(finetune(project, str(tiny_bundle), tmp_path))
    about = json.loads((project / FILE).read_text())
    about["items"][0]["status"] = "skipped"
    (project / FILE).write_text(json.dumps(about))
    with pytest.raises(LSegDiffError, match="7 masks are accepted; accept at least 8"):
        next(finetune(project, str(tiny_bundle), tmp_path / "mine"))
    assert not list(tmp_path.glob(".mine*"))


def test_stopped_it_leaves_nothing(project: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    course = finetune(project, str(tiny_bundle), tmp_path / "mine", steps=6)
    assert next(course) == Progress("learning", 5, 6)
    course.close()
    assert not list(tmp_path.glob("*mine*"))


KILLED = """
import sys, time
from pathlib import Path
from lsegdiff_core.comparison import working

with working(Path(sys.argv[1])) as work:
    print(work, flush=True)
    time.sleep(60)
"""


def test_what_a_killed_process_left_goes_with_the_next_one(project: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    with subprocess.Popen([sys.executable, "-c", KILLED, str(models / "mine")], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        killed = Path(process.stdout.readline().decode().strip())
        clear_leftovers(models)
        assert killed.is_dir(), "its process is alive"
        process.kill()
    others = models / ".others.part"
    others.mkdir()
    with working(models / "mine") as alive:
        assert not killed.exists()
        list(finetune(project, str(tiny_bundle), models / "mine", steps=1))
        assert sorted(path for path in models.iterdir() if path.suffix != ".lock") == [alive, others, models / "mine"]
        with pytest.raises(LSegDiffError, match="mine: exists already; give the new model another name"):
            next(finetune(project, str(tiny_bundle), models / "mine"))
        assert alive.is_dir()
    assert sorted(path for path in models.iterdir() if path.suffix != ".lock") == [others, models / "mine"]


def test_of_two_that_make_the_same_model_the_second_is_told(project: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    course = finetune(project, str(tiny_bundle), tmp_path / "mine", steps=6)
    next(course)
    list(finetune(project, str(tiny_bundle), tmp_path / "mine", steps=1))
    first = (tmp_path / "mine" / "bundle.json").read_text()
    with pytest.raises(LSegDiffError, match=r"mine: cannot be made .*; give the new model another name"):
        list(course)
    assert (tmp_path / "mine" / "bundle.json").read_text() == first
    assert not list(tmp_path.glob(".lsegdiff-mine*"))


def test_a_bundle_that_learnt_from_nobody_has_no_comparison(tiny_bundle: Path) -> None:
    assert "held_out" not in read_manifest(tiny_bundle).training
    with pytest.raises(LSegDiffError, match="was not made by finetune"):
        read_comparison(tiny_bundle)


def test_too_little_memory_on_the_gpu_means_smaller_batches_then_the_cpu(
    project: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[tuple[str, int, int]] = []

    def train(config: TrainConfig, *rest: Any, device: torch.device, **more: Any) -> Iterator[tuple[str, Report]]:
        tried.append((device.type, config.denoiser.batch, config.denoiser.steps))
        if device.type == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        yield from run.train(config, *rest, device=device, **more)

    monkeypatch.setattr("lsegdiff_core.finetune.train", train)
    first, *_ = finetune(project, str(tiny_bundle), tmp_path / "mine", steps=6, device=torch.device("cuda"))
    assert tried == [("cuda", 8, 6), ("cuda", 4, 12), ("cuda", 2, 24), ("cuda", 1, 48), ("cpu", 8, 6)]
    assert first == Progress("learning", 5, 6, "on the CPU, for the GPU's memory does not suffice")
    assert Progress.parse(f"{first}\n") == first
    assert (tmp_path / "mine").is_dir()


def test_smaller_batch_is_said_and_leaves_nothing_of_the_larger_one(
    project: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(config: TrainConfig, *rest: Any, device: torch.device, **more: Any) -> Iterator[tuple[str, Report]]:
        course = run.train(config, *rest, **more)
        yield next(course)
        if config.denoiser.batch == 8:
            raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr("lsegdiff_core.finetune.train", train)
    course = finetune(project, str(tiny_bundle), tmp_path / "mine", steps=6, device=torch.device("cuda"))
    assert next(course) == Progress("learning", 5, 6)
    assert next(course) == Progress("learning", 5, 12, "4 at once, for the GPU's memory does not suffice for more")
    course.close()


def test_too_little_memory_for_the_comparison_does_not_throw_the_training_away(
    project: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places: list[str] = []

    def predictor(bundle: str, device: str) -> Predictor:
        places.append(device)
        if device == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return Predictor(bundle, device)

    monkeypatch.setattr("lsegdiff_core.finetune.train", lambda *rest, device, **more: run.train(*rest, **more))
    monkeypatch.setattr("lsegdiff_core.finetune.Predictor", predictor)
    *_, last = finetune(project, str(tiny_bundle), tmp_path / "mine", steps=1, device=torch.device("cuda"))
    assert places == ["cuda", "cpu", "cpu"]
    assert last == Progress("comparing", 4, 4)
    assert (tmp_path / "mine").is_dir()


def test_too_little_memory_everywhere_is_said_and_leaves_nothing(
    project: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(*_: Any, **__: Any) -> Iterator[tuple[str, Report]]:
        raise MemoryError
        yield

    monkeypatch.setattr("lsegdiff_core.finetune.train", train)
    with pytest.raises(LSegDiffError, match="the memory does not suffice for learning; close other programs"):
        next(finetune(project, str(tiny_bundle), tmp_path / "mine"))
    assert not list(tmp_path.glob("*mine*"))


def test_progress_and_comparison_read_well() -> None:
    assert Progress.parse("learning 20/300\n") == Progress("learning", 20, 300)
    assert Progress.parse("wrote     models/mine") is None
    comparison = Comparison(("a", "b", "c"), (0.5, 0.9, 1.0), (0.8, 0.8, 1.0))
    assert str(comparison) == "Dice 0.800 before, 0.867 after on 3 masks held out; 1 better, 1 worse"
