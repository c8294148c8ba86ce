from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import napari.settings
import platformdirs
import pytest
import yaml
from npe2 import PluginManifest
from qtpy.QtWidgets import QCheckBox, QLabel

import napari_lsegdiff
from lsegdiff_core.config import MorphologyConfig, SamplingConfig
from napari_lsegdiff import _settings
from napari_lsegdiff._choices import MAX_SEEDS, ImageChoice, ModelChoice
from napari_lsegdiff._settings import UNSET, Settings, load_settings, settings_file
from napari_lsegdiff._shortcuts import Shortcuts

MANIFEST = Path(napari_lsegdiff.__file__).with_name("napari.yaml")
SUGGESTED = SamplingConfig(steps=7, sampler="heun", seeds=(0, 1))
needs_plugin_settings = pytest.mark.skipif(
    not hasattr(napari.settings, "get_plugin_settings"), reason="napari 0.8 has no settings of plugins"
)
MORPHOLOGY = MorphologyConfig(threshold=0.4, opening=2.0, min_confidence=0.3)


@pytest.fixture
def write(no_settings: Path):
    """Write the settings file."""

    def write(content: object) -> Path:
        no_settings.parent.mkdir()
        no_settings.write_text(content if isinstance(content, str) else json.dumps(content))
        return no_settings

    return write


def test_without_a_file_the_model_is_followed():
    assert load_settings() == (Settings(), [])
    assert UNSET.sampling(SUGGESTED) == SUGGESTED
    assert UNSET.morphology(MORPHOLOGY) == MORPHOLOGY


def test_what_is_set_goes_before_the_model(write):
    write(
        {
            "segmentation": {"steps": 12, "seeds": 3, "flip": "yes", "zoom": "no", "device": "cpu"},
            "refinement": {"threshold": 0.6, "opening": 0, "fill_holes": "no", "min_area": 50, "keep_largest": "yes"},
            "files": {"autosave_folder": "~/work"},
        }
    )
    settings, problems = load_settings()
    assert problems == []
    assert settings.sampling(SUGGESTED) == SamplingConfig(12, "heun", (0, 1, 2), flip=True)
    assert settings.sampling(replace(SUGGESTED, zoom=True)).zoom is False
    assert settings.morphology(MORPHOLOGY) == MorphologyConfig(
        threshold=0.6, opening=0.0, fill_holes=False, min_area=50, keep_largest=True, min_confidence=0.3
    )
    assert settings.device == "cpu"
    assert settings.autosave_folder == Path.home() / "work"


@pytest.mark.parametrize(("given", "certainty"), [(-1, 0.3), (-0.5, 0.3), (0, 0.0), (0.45, 0.45)])
def test_certainty_is_a_share_as_in_the_dock(write, given, certainty):
    write({"refinement": {"min_confidence": given}})
    settings, problems = load_settings()
    assert problems == []
    assert settings.morphology(MORPHOLOGY).min_confidence == certainty


def test_every_setting_has_a_title_and_says_when_it_takes_effect():
    manifest = yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))
    for group in manifest["contributions"]["configurations"].values():
        assert group["title"].endswith(" (takes effect when the dock is opened again)")
        for name, about in group["properties"].items():
            assert about.get("title", "").strip(), name  # napari's preferences show no setting without one
            assert about["description"].endswith(" Takes effect when the dock is opened again.")


def test_settings_have_the_words_of_the_dock(dock):
    words = {widget.text() for kind in (QLabel, QCheckBox) for widget in dock.findChildren(kind)}
    for group in ("segmentation", "refinement"):
        for about in _settings._schema()[group].values():
            title = about["title"].partition(" (")[0]
            assert title in words or f"{title} (px)" in words, title


def test_every_default_of_the_manifest_means_that_nothing_is_set(write):
    schema = _settings._schema()
    write({group: {name: about["default"] for name, about in names.items()} for group, names in schema.items()})
    assert load_settings() == (Settings(), [])


def test_settings_and_manifest_have_the_same_fields():
    names = [name for properties in _settings._schema().values() for name in properties]
    fields = [*Settings.__dataclass_fields__, *Shortcuts.__dataclass_fields__]
    assert names == [name for name in fields if name != "shortcuts"]


@pytest.mark.parametrize(
    ("group", "name", "value", "said"),
    [
        ("segmentation", "steps", "many", "'many' is not of type 'integer'"),
        ("segmentation", "steps", 51, "51 is greater than the maximum of 50"),
        ("segmentation", "steps", True, "is not of type 'integer'"),
        ("segmentation", "sampler", "euler", "'euler' is not one of"),
        ("segmentation", "device", None, "None is not of type 'string'"),
        ("refinement", "threshold", 1.5, "1.5 is greater than the maximum"),
        ("refinement", "fill_holes", True, "is not of type 'string'"),
        ("refinement", "roundness", 3, "is not known"),
        ("files", "autosave_folder", 3, "is not of type 'string'"),
    ],
)
def test_a_bad_value_is_named_and_left_out(write, caplog, group, name, value, said):
    path = write({group: {name: value}, "segmentation" if group != "segmentation" else "files": {}})
    with caplog.at_level(logging.WARNING):
        settings, (problem,) = load_settings()
    assert settings == Settings()
    assert problem.startswith(f"{path}: {group}.{name}: ")
    assert said in problem
    assert f"{group}.{name}" in caplog.text
    assert str(path) not in caplog.text


def test_good_values_beside_a_bad_one_hold(write):
    write({"segmentation": {"steps": "many", "seeds": 4}, "refinement": [], "future": {}})
    settings, problems = load_settings()
    assert settings == Settings(seeds=4)
    assert len(problems) == 3


@pytest.mark.parametrize("content", ["{", "[1, 2]", "5", "a: [", "\x00", "[" * 10_000])
def test_a_broken_file_is_named(write, content):
    path = write(content)
    settings, (problem,) = load_settings()
    assert settings == Settings()
    assert problem.startswith(f"{path}: ")


def test_a_broken_file_is_named_with_its_line_in_a_sentence(write, caplog):
    path = write("keys:\n  accept: J\n  skip: [\n")
    with caplog.at_level(logging.WARNING):
        _, problems = load_settings()
    wanted = f"{path}: cannot be understood from line 4 on; correct or remove it, until then the defaults hold"
    assert problems == [wanted]
    assert "expected the node content" in caplog.text


@needs_plugin_settings
def test_napari_keeps_the_settings(request, npe2pm, monkeypatch):
    request.getfixturevalue("plugin_settings")
    from napari.settings import get_plugin_settings

    monkeypatch.setattr(_settings, "settings_file", settings_file)
    npe2pm.register(PluginManifest.from_file(MANIFEST))
    theirs = get_plugin_settings("napari-lsegdiff")
    assert load_settings() == (Settings(), [])
    theirs.segmentation.steps = 9
    theirs.refinement.threshold = 0.7
    theirs.files.autosave_folder = "/somewhere"
    assert settings_file() == theirs.config_path
    assert load_settings() == (Settings(steps=9, threshold=0.7, autosave_folder=Path("/somewhere")), [])


@needs_plugin_settings
def test_a_file_of_naparis_that_somebody_edited(request, npe2pm, tmp_path, monkeypatch):
    request.getfixturevalue("plugin_settings")
    monkeypatch.setattr(_settings, "settings_file", settings_file)
    npe2pm.register(PluginManifest.from_file(MANIFEST))
    (tmp_path / "napari-lsegdiff.yaml").write_text(yaml.safe_dump({"segmentation": {"steps": "many", "seeds": 2}}))
    settings, (problem,) = load_settings()
    assert settings == Settings(seeds=2)
    assert "segmentation.steps: 'many' is not" in problem


def test_without_naparis_settings_a_file_serves(npe2pm, monkeypatch, tmp_path):
    monkeypatch.delattr("napari.settings.get_plugin_settings", raising=False)
    monkeypatch.setattr(platformdirs, "user_config_path", lambda name: tmp_path / name)
    assert settings_file() == tmp_path / "lsegdiff" / "settings.json"


def test_the_form_follows_the_settings(make_napari_viewer, bundle):
    images = ImageChoice(make_napari_viewer())
    choices = ModelChoice(images, Settings(sampler="ddpm", seeds=MAX_SEEDS, device="cuda"))
    choices.choose(bundle)
    assert (choices.steps.value(), choices.sampler.currentText(), choices.seeds.value()) == (3, "ddpm", 16)
    assert choices.device.currentText() == "cuda"
    choices.show_devices(["cpu"])
    assert choices.device.currentText() == "auto", "this machine has none"
    images.close_events()
    choices.deleteLater()
