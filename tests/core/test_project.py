from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from lsegdiff_core.classes import DEFAULT_CLASSES, ObjectClass
from lsegdiff_core.data.readers import read_pairs
from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.export import export_labels
from lsegdiff_core.journal_format import NO_STROKE
from lsegdiff_core.project import Project
from lsegdiff_core.project_file import FILE

SHAPE = (20, 30)


@pytest.fixture
def images(tmp_path: Path, write_image) -> list[Path]:
    return [
        write_image(tmp_path / "images" / f"{name}.png", np.full((*SHAPE, 3), 90, np.uint8))
        for name in ("a", "b", "long name with spaces and ümlauts")
    ]


@pytest.fixture
def project(tmp_path: Path, images: list[Path]):
    made = Project.create(tmp_path, images)
    yield made
    made.close()


def labels(value: int = 1) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[4:10, 5:15] = value
    return mask


def strokes() -> np.ndarray:
    drawn = np.full(SHAPE, NO_STROKE, np.int32)
    drawn[4, 5:8] = 1
    drawn[0, :] = 0
    return drawn


def reopened(project: Project) -> Project:
    project.close()
    return Project.open(project.folder)


def test_everything_survives_closing(project: Project, images: list[Path]):
    project.update("a", status="predicted", disagreement=0.125, notes="blurred, see video", tags=("blur", "left"))
    project.set_classes([ObjectClass("mole", "#00ff00")])
    again = reopened(project)
    assert again.items == project.items
    assert list(again.items) == ["a", "b", "long name with spaces and ümlauts"]
    assert again.classes == (ObjectClass("mole", "#00ff00"),)
    assert [again.image(name).resolve() for name in again.items] == images
    again.close()


def test_project_and_images_can_move_together(project: Project, tmp_path: Path):
    project.close()
    moved = tmp_path.parent / f"{tmp_path.name}-moved"
    tmp_path.rename(moved)
    again = Project.open(moved)
    assert again.image("a").is_file()
    again.close()
    moved.rename(tmp_path)


def test_same_stem_twice_gives_two_masks(tmp_path: Path, write_image):
    pixels = np.zeros((4, 4, 3), np.uint8)
    paths = [write_image(tmp_path / path, pixels) for path in ("x/a.png", "y/a.png", "x/a.bmp", "x/b.png")]
    project = Project.create(tmp_path / "out", [*paths, paths[0]])
    assert [project.image(name).resolve() for name in project.items] == paths
    for number, name in enumerate(project.items, start=1):
        project.save(name, np.full((4, 4), number, np.uint8), None, {}, True, 0)
    assert [project.load(name).labels[0, 0] for name in project.items] == [1, 2, 3, 4]
    project.close()


def test_names_that_differ_in_case_alone_are_different_files_everywhere(tmp_path: Path, write_image):
    paths = [write_image(tmp_path / path, np.zeros((4, 4, 3), np.uint8)) for path in ("x/A.png", "y/a.png", "z/a.PNG")]
    project = Project.create(tmp_path / "out", paths)
    assert len({name.casefold() for name in project.items}) == 3
    project.close()


def test_mask_strokes_and_provenance_come_back(project: Project):
    project.save("a", labels(7), strokes(), {"sampling": {"steps": 3}}, accepted=True, seconds=4.26)
    saved = project.load("a")
    np.testing.assert_array_equal(saved.labels, labels(7))
    np.testing.assert_array_equal(saved.strokes, strokes())
    assert saved.provenance["sampling"] == {"steps": 3}
    assert saved.provenance["seconds"] == 4.3
    assert saved.provenance["changed"] == pytest.approx(33 / 600)
    assert (project.items["a"].status, project.items["a"].seconds) == ("accepted", 4.3)
    assert project.load("b") is None


def test_image_has_an_accepted_mask_or_a_draft_never_both(project: Project):
    project.save("a", labels(), None, {}, accepted=True, seconds=0)
    project.save("a", labels(2), None, {}, accepted=False, seconds=0)
    assert project.items["a"].status == "edited"
    assert project.accepted() == []
    assert sorted(path.name for path in project.folder.rglob("a.*")) == [
        "a.png",
        "a.png",
        "a.provenance.json",
    ]
    project.save("a", labels(3), None, {}, accepted=True, seconds=0)
    assert project.load("a").labels.max() == 3
    assert not (project.folder / "drafts" / "a.png").exists()


@pytest.mark.parametrize("accepted", [True, False])
def test_other_version_that_cannot_be_removed_is_named(
    accepted: bool, project: Project, monkeypatch: pytest.MonkeyPatch
):
    project.save("a", labels(), None, {}, accepted=not accepted, seconds=0)

    unlink = Path.unlink

    def held(path: Path, missing_ok: bool = False) -> None:
        if path.name == "a.png":
            raise PermissionError(13, "Permission denied")
        unlink(path, missing_ok)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", held)
        with pytest.raises(LSegDiffError, match=r"a\.png: cannot be removed \(Permission denied\); close it elsewhere"):
            project.save("a", labels(2), None, {}, accepted=accepted, seconds=0)
    project.save("a", labels(2), None, {}, accepted=accepted, seconds=0)
    np.testing.assert_array_equal(project.load("a").labels, labels(2))


def test_accepted_masks_are_a_training_folder(project: Project):
    for name in project.items:
        project.save(name, labels(), None, {}, accepted=True, seconds=0)
    pairs = read_pairs(project.folder)
    assert [pair.name for pair in pairs] == sorted(project.items)
    assert all((pair.read()[1] == labels().astype(bool)).all() for pair in pairs)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # decoding in pycocotools
def test_coco_holds_every_accepted_mask(project: Project, tmp_path: Path):
    objects = {"classes": ["polyp"], "objects": [{"id": 1, "class": "polyp"}, {"id": 5, "class": "lumen"}]}
    two = labels()
    two[15:, 20:] = 5
    project.save("b", two, None, objects, accepted=True, seconds=0)
    project.save("a", labels(), None, {"classes": ["polyp"]}, accepted=True, seconds=0)
    project.save("long name with spaces and ümlauts", labels(), None, {}, accepted=False, seconds=0)
    assert project.export_coco(tmp_path / "all.json") == 2
    data = json.loads((tmp_path / "all.json").read_text())
    assert [image["file_name"] for image in data["images"]] == ["a.png", "b.png"]
    assert [item["name"] for item in data["categories"]] == ["polyp", "instrument", "lumen"]
    assert [(item["id"], item["image_id"], item["category_id"]) for item in data["annotations"]] == [
        (1, 1, 1),
        (2, 2, 1),
        (3, 2, 3),
    ]
    np.testing.assert_array_equal(coco_mask.decode(data["annotations"][2]["segmentation"]), two == 5)


def test_export_without_accepted_masks_says_so(project: Project, tmp_path: Path):
    with pytest.raises(LSegDiffError, match="no mask is accepted yet"):
        project.export_coco(tmp_path / "all.json")


def test_file_edited_into_nonsense_is_named_and_left_alone(project: Project):
    project.close()
    path = project.folder / FILE
    path.write_text("{ not json")
    with pytest.raises(LSegDiffError, match=f"{FILE}: is damaged or no JSON file"):
        Project.open(project.folder)
    assert path.read_text() == "{ not json"


def test_project_is_open_in_one_session_only(project: Project):
    code = "from lsegdiff_core.project import Project; from pathlib import Path; "
    code += f"Project.open(Path({str(project.folder)!r}))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "is open in another session; close it there first" in other.stderr
    project.close()
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_folder_with_a_project_is_not_overwritten(project: Project, images: list[Path]):
    with pytest.raises(LSegDiffError, match="exists already; open it instead"):
        Project.create(project.folder, images)


def test_project_needs_images_and_a_project_folder(tmp_path: Path):
    with pytest.raises(LSegDiffError, match="needs images"):
        Project.create(tmp_path, [])
    with pytest.raises(LSegDiffError, match=f"holds no {FILE}"):
        Project.open(tmp_path)


def test_folder_that_is_a_file_is_named(tmp_path: Path, images: list[Path]):
    (tmp_path / "out").write_text("")
    with pytest.raises(LSegDiffError, match=r"out: cannot be made"):
        Project.create(tmp_path / "out", images)


def test_failed_save_changes_nothing(project: Project, monkeypatch: pytest.MonkeyPatch):
    project.save("a", labels(), strokes(), {}, accepted=True, seconds=1)
    before = project.items["a"]

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(LSegDiffError, match="No space left on device"):
        project.save("a", labels(2), strokes(), {}, accepted=True, seconds=2)
    monkeypatch.undo()
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(LSegDiffError, match=f"{FILE}: cannot be written"):
        project.update("a", notes="lost?")
    monkeypatch.undo()
    assert project.items["a"] == before
    np.testing.assert_array_equal(project.load("a").labels, labels())


def test_broken_mask_is_named(project: Project):
    project.save("a", labels(), None, {}, accepted=True, seconds=1)
    mask = project.folder / "masks" / "a.png"
    mask.write_bytes(mask.read_bytes()[:40])
    with pytest.raises(LSegDiffError, match=r"masks/a\.png: cannot be read as a PNG; .* A project's mask: put back"):
        project.load("a")


def test_mask_from_elsewhere_has_no_strokes(project: Project, write_image):
    write_image(project.folder / "masks" / "a.png", np.ones(SHAPE, np.uint8))
    saved = project.load("a")
    assert saved.labels.sum() == 600
    assert (saved.strokes == NO_STROKE).all()
    assert saved.provenance == {}


@pytest.mark.parametrize("runs", [[{"id": 1}], [3], [{"id": 1, "size": [3, 3], "counts": [4, 4]}], 5])
def test_strokes_edited_into_nonsense_are_named(project: Project, runs: object):
    project.save("a", labels(), strokes(), {}, accepted=True, seconds=1)
    sidecar = project.folder / "masks" / "a.provenance.json"
    sidecar.write_text(json.dumps(json.loads(sidecar.read_text()) | {"strokes": runs}))
    with pytest.raises(LSegDiffError, match=r"a\.provenance\.json: its strokes cannot be read"):
        project.load("a")


def about(*objects: tuple[int, str, str]) -> dict[str, object]:
    """What a sidecar says of objects: id, class and name."""
    listed = [{"id": number, "class": known, "name": name, "colour": "#123456"} for number, known, name in objects]
    return {"classes": ["polyp"], "objects": listed}


def objects_of(project: Project, name: str) -> list[tuple[str, str, str]]:
    return [(item["class"], item["name"], item["colour"]) for item in project.load(name).provenance["objects"]]


@pytest.fixture
def used(project: Project) -> Project:
    """Two polyps and a lumen, in an accepted mask and a draft."""
    two = labels()
    two[15:, 20:] = 5
    project.save("a", two, strokes(), about((1, "polyp", "polyp 1"), (5, "lumen", "the dark one")), True, 3)
    project.save("b", labels(), None, about((1, "polyp", "polyp 1")), False, 0)
    return project


def test_objects_follow_a_class_that_is_renamed(used: Project, tmp_path: Path):
    assert used.class_counts() == {"polyp": 2, "lumen": 1}
    before = used.load("a")
    classes = [ObjectClass("adenoma", "#ff0000"), *DEFAULT_CLASSES[1:]]
    used.set_classes(classes, {"polyp": "adenoma"})
    assert objects_of(used, "a") == [("adenoma", "adenoma 1", "#ff0000"), ("lumen", "the dark one", "#b388ff")]
    assert objects_of(used, "b") == [("adenoma", "adenoma 1", "#ff0000")]
    # nothing else moves
    after = used.load("a")
    np.testing.assert_array_equal(after.labels, before.labels)
    np.testing.assert_array_equal(after.strokes, before.strokes)
    assert {**after.provenance, "objects": 0} == {**before.provenance, "objects": 0}
    used.export_coco(tmp_path / "all.json")
    data = json.loads((tmp_path / "all.json").read_text())
    assert [item["name"] for item in data["categories"]] == ["adenoma", "instrument", "lumen"]
    assert [item["category_id"] for item in data["annotations"]] == [1, 3]
    again = reopened(used)
    assert again.classes == tuple(classes)
    again.close()


def test_names_can_be_exchanged(used: Project):
    polyp, instrument, lumen = DEFAULT_CLASSES
    exchanged = [ObjectClass("lumen", polyp.colour), instrument, ObjectClass("polyp", lumen.colour)]
    used.set_classes(exchanged, {"polyp": "lumen", "lumen": "polyp"})
    assert used.class_counts() == {"lumen": 2, "polyp": 1}


def test_class_in_use_is_not_removed_without_saying_where_its_objects_go(used: Project):
    files = {path: path.read_bytes() for path in used.folder.rglob("*.json")}
    with pytest.raises(LSegDiffError, match=r"'lumen' is still in use, by .*a\.provenance\.json; say which class"):
        used.set_classes(DEFAULT_CLASSES[:2])
    assert used.classes == DEFAULT_CLASSES
    assert {path: path.read_bytes() for path in files} == files
    used.set_classes(DEFAULT_CLASSES[:1], {"lumen": "polyp"})
    assert used.class_counts() == {"polyp": 3}


@pytest.mark.parametrize(
    ("classes", "message"), [([], "there are none"), ([DEFAULT_CLASSES[0]] * 2, "'polyp' is there twice")]
)
def test_classes_that_make_no_sense_are_refused(used: Project, classes: list[ObjectClass], message: str):
    with pytest.raises(LSegDiffError, match=message):
        used.set_classes(classes)
    assert used.classes == DEFAULT_CLASSES


def test_classes_that_cannot_be_written_change_no_file(used: Project, monkeypatch: pytest.MonkeyPatch):
    files = {path: path.read_bytes() for path in used.folder.rglob("*.json")}
    replaced = Path.replace

    def full(self: Path, target: Path) -> Path:
        if Path(target).name == FILE:  # the last one
            raise OSError(28, "No space left on device")
        return replaced(self, target)

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(LSegDiffError, match="No space left on device"):
        used.set_classes([ObjectClass("adenoma", "#ff0000"), *DEFAULT_CLASSES[1:]], {"polyp": "adenoma"})
    monkeypatch.undo()
    assert used.classes == DEFAULT_CLASSES
    assert {path: path.read_bytes() for path in files} == files


@pytest.mark.skipif(os.name == "nt", reason="Windows renames no folder with an open file in it: the lock")
def test_folder_that_disappears_is_not_made_again(used: Project, tmp_path: Path):
    gone = tmp_path.parent / f"{tmp_path.name}-gone"
    used.folder.rename(gone)
    with pytest.raises(LSegDiffError, match=f"{tmp_path.name}: the folder is gone; bring it back"):
        used.update("b", notes="lost?")
    with pytest.raises(LSegDiffError, match="the folder is gone"):
        used.save("b", labels(), None, {}, True, 0)
    with pytest.raises(LSegDiffError, match="the folder is gone"):
        used.set_classes(DEFAULT_CLASSES[:2], {"lumen": "polyp"})
    assert not tmp_path.exists()
    gone.rename(tmp_path)
    used.update("b", notes="here")
    assert used.load("b") is not None


@pytest.mark.parametrize(
    ("nonsense", "message"),
    [
        ("{", "is damaged or no JSON file"),
        ("[]", "expected an object with named fields"),
        ({"objects": 5}, "provenance.objects"),
        ({"objects": [{"id": "x"}]}, "provenance.objects"),
        ({"objects": [{"id": 1, "class": 7}]}, "provenance.objects"),
        ({"classes": "polyp"}, "provenance.classes"),
        ({"image": 3}, "image: expected an object"),
        ({"mask": []}, "mask: expected an object"),
    ],
)
def test_sidecar_edited_into_nonsense_is_named(used: Project, nonsense: object, message: str):
    sidecar = used.folder / "masks" / "a.provenance.json"
    changed = nonsense if isinstance(nonsense, str) else json.dumps(json.loads(sidecar.read_text()) | nonsense)
    sidecar.write_text(changed)
    for ask in (lambda: used.load("a"), used.class_counts, lambda: used.set_classes(DEFAULT_CLASSES)):
        with pytest.raises(LSegDiffError, match=rf"a\.provenance\.json: .*{message}"):
            ask()
    assert sidecar.read_text() == changed


def test_mask_of_a_header_that_promises_too_much_is_named(project: Project):
    from PIL import Image

    path = project.folder / "masks" / "a.png"
    path.parent.mkdir()
    Image.new("1", (12_000, 9_000)).save(path)
    with pytest.raises(LSegDiffError, match=r"a\.png: 12000 x 9000 pixels is too large"):
        project.load("a")


SAVE = """
import os, signal, sys
from pathlib import Path
import numpy as np
from lsegdiff_core.project import Project

project = Project.open(Path(sys.argv[1]))
drawn = np.full((20, 30), -1, np.int32)
drawn[2, 3:9] = 1
project.save("a", np.full((20, 30), 1, np.uint8), drawn, {"classes": ["polyp"]}, accepted=True, seconds=1)
replace = Path.replace

def first_only(self, target):
    Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    return replace(self, target)

Path.replace = first_only
project.save("a", np.full((20, 30), 2, np.uint8), None, {}, accepted=True, seconds=2)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system kills otherwise")
def test_kill_between_mask_and_sidecar_gives_no_strokes_of_another_mask(project: Project):
    project.close()
    done = subprocess.run([sys.executable, "-c", SAVE, str(project.folder)], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    folder = project.folder / "masks"
    assert any(path.name.startswith(".a.provenance-") for path in folder.iterdir())
    again = Project.open(project.folder)
    assert sorted(path.name for path in folder.iterdir()) == ["a.png", "a.provenance.json"]
    saved = again.load("a")
    assert (saved.labels == 2).all(), "the mask was renamed already"
    assert (saved.strokes == NO_STROKE).all()
    assert "a.png was changed elsewhere, or saving it was cut off" in saved.note
    # saved again, all is well
    again.save("a", saved.labels, strokes(), saved.provenance, accepted=True, seconds=2)
    assert again.load("a").note == ""
    np.testing.assert_array_equal(again.load("a").strokes, strokes())
    again.close()


def test_opening_removes_what_a_killed_session_left_and_nothing_else(project: Project):
    project.close()
    name = "long name with spaces and ümlauts"
    left = [".lsegdiff-project-0a_9z8y7.json", f"masks/.{name}-abcdefgh.png", "drafts/.b.provenance-abcdefgh.json"]
    others = [
        "masks/.c-abcdefgh.png",
        "masks/.a-abcdefgh.tif",
        "masks/.a-copy.png",
        "masks/a-abcdefgh.png",
        ".a-abcdefgh.png",
    ]
    for file in left + others:
        (project.folder / file).parent.mkdir(exist_ok=True)
        (project.folder / file).write_text("half")
    (project.folder / "masks" / ".a-abcdefgh.png").mkdir()
    again = Project.open(project.folder)
    assert not any((project.folder / file).exists() for file in left)
    assert all((project.folder / file).exists() for file in others)
    again.close()


def test_images_that_were_added_since_are_appended(tmp_path: Path, images: list[Path], write_image):
    folder = images[0].parent
    project = Project.of_folder(folder)
    project.update("a", status="accepted")
    assert project.added == 0
    project.close()
    pixels = np.zeros((*SHAPE, 3), np.uint8)
    new = [write_image(folder / name, pixels) for name in ("0.png", "a.bmp", "z.png")]
    images[1].unlink()  # one that is gone keeps its item
    again = Project.of_folder(folder)
    assert again.added == 3
    assert list(again.items) == ["a", "b", "long name with spaces and ümlauts", "0", "a_bmp", "z"]
    assert [again.image(name).resolve() for name in ("0", "a_bmp", "z")] == new
    assert again.items["a"].status == "accepted"
    again.update("0", status="predicted")
    again.close()
    # they are known from now on, whichever way leads there
    link = tmp_path / "link" / "to" / "frames"
    link.parent.mkdir(parents=True)
    link.symlink_to(folder)
    for way in (folder, link):
        third = Project.of_folder(way)
        assert third.added == 0
        assert third.items.keys() == again.items.keys()
        third.close()


def test_exported_masks_are_no_images(images: list[Path]):
    folder = images[0].parent
    Project.of_folder(folder).close()
    export_labels(labels(), folder / "a mask.png", "indexed-png", {})
    export_labels(labels(), folder / "b.json", "coco", {})  # its sidecar has the name that one of b.png would have
    (folder / "long name with spaces and ümlauts.provenance.json").write_text("[")
    known = ["a", "b", "long name with spaces and ümlauts"]
    again = Project.of_folder(folder)
    assert (list(again.items), again.added) == (known, 0)
    again.close()
    shutil.rmtree(again.folder)
    anew = Project.of_folder(folder)
    assert list(anew.items) == known
    anew.close()


def test_lines_that_were_added_since_are_appended(tmp_path: Path, images: list[Path]):
    path = tmp_path / "list.txt"
    path.write_text("images/a.png\n")
    Project.of_list(path).close()
    path.write_text("images/b.png\nimages/a.png\n")
    again = Project.of_list(path)
    assert (list(again.items), again.added) == (["a", "b"], 1)
    again.close()


def test_lines_that_name_an_image_again_are_left_out_and_counted(tmp_path: Path, images: list[Path]):
    path = tmp_path / "list.txt"
    path.write_text(f"images/a.png\nimages/a.png\n./images/../images/a.png\n{images[0]}\n")
    project = Project.of_list(path)
    assert (list(project.items), project.repeated) == (["a"], 3)
    assert project.news == "Lines of the list that name an image again were left out: 3"
    project.close()
    path.write_text(f"images/a.png\n{images[0]}\nimages/b.png\nimages/b.png\n")
    again = Project.of_list(path)
    assert (list(again.items), again.repeated) == (["a", "b"], 1)
    assert again.news == "1 new image. Lines of the list that name an image again were left out: 1"
    again.close()


@pytest.mark.parametrize("lines", [["# LSegDiff", "", "How it works", "x" * 5000], ["README.md", "images", "gone.png"]])
def test_text_without_a_single_image_is_no_list(tmp_path: Path, images: list[Path], lines: list[str]):
    path = tmp_path / "README.md"
    path.write_text("\n".join(lines))
    before = sorted(tmp_path.iterdir())
    count = sum(bool(line) and not line.startswith("#") for line in lines)
    with pytest.raises(LSegDiffError, match=rf"README\.md: none of its lines \({count}\) is an image file; give one"):
        Project.of_list(path)
    assert sorted(tmp_path.iterdir()) == before


def test_list_is_taken_if_some_of_its_images_are_there(tmp_path: Path, images: list[Path]):
    path = tmp_path / "list.txt"
    path.write_text("images/gone.png\nimages/b.png\n")
    project = Project.of_list(path)
    assert list(project.items) == ["gone", "b"]
    project.close()
    images[1].unlink()  # a project that is there opens whatever has become of its images
    again = Project.of_list(path)
    assert list(again.items) == ["gone", "b"]
    again.close()


def test_empty_list_says_what_it_wants(tmp_path: Path):
    (tmp_path / "list.txt").write_text("# none yet\n")
    with pytest.raises(LSegDiffError, match=r"list\.txt: is empty; let each line name an image file, such as frames/"):
        Project.of_list(tmp_path / "list.txt")


def test_missing_images_are_marked_at_opening_until_they_are_back(tmp_path: Path, images: list[Path]):
    lines = ["images/gone.png", *(f"images/{image.name}" for image in images)]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    made = Project.of_list(tmp_path / "list.txt")
    assert made.items["gone"].problem.startswith(f"{images[0].parent / 'gone.png'}: no such file")
    assert made.news == "Image files that are not there: 1"
    assert made.first_open == "a"
    made.update("b", status="accepted")
    made.close()
    for image in images:
        image.rename(image.with_suffix(".kept"))
    again = Project.open(made.folder)
    assert [name for name, item in again.items.items() if item.problem] == ["gone", "a", images[2].stem]
    again.update("a", notes="saved as missing")
    again.close()
    for image in images:
        image.with_suffix(".kept").rename(image)
    (images[0].parent / "new.png").symlink_to(images[0])
    (tmp_path / "list.txt").write_text("\n".join([*lines, "images/new.png", "images/never.png"]))
    third = Project.of_list(tmp_path / "list.txt")
    assert [name for name, item in third.items.items() if item.problem] == ["gone", "never"]
    third.close()


def test_images_of_a_folder_that_is_gone_are_not_marked(tmp_path: Path, images: list[Path]):
    made = Project.create(tmp_path / "project", images)
    made.close()
    images[0].parent.rename(tmp_path / "taken out")
    again = Project.open(made.folder)
    assert not any(item.problem for item in again.items.values())
    again.close()


def test_way_to_an_image_is_written_plainly(tmp_path: Path, images: list[Path]):
    project = Project.of_folder(images[0].parent)
    assert project.image("a") == images[0]
    images[0].unlink()
    assert project.image("a") == images[0]
    project.close()


def test_way_to_an_image_behind_a_link_leads_to_that_image(tmp_path: Path, images: list[Path]):
    made = Project.of_folder(images[0].parent)
    made.close()
    link = tmp_path / "elsewhere" / "project"
    link.parent.mkdir()
    link.symlink_to(made.folder)
    project = Project.open(link)
    assert project.image("a").samefile(images[0])
    project.close()


def test_project_opens_without_its_images(images: list[Path]):
    Project.of_folder(images[0].parent).close()
    for path in images:
        path.unlink()
    again = Project.of_folder(images[0].parent)
    assert (len(again.items), again.added) == (3, 0)
    again.close()
