"""The user's settings: a file that napari's preferences write, or one written by hand where napari has none."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from lsegdiff_core.config import MorphologyConfig, SamplingConfig
from napari_lsegdiff._shortcuts import DEFAULT, Shortcuts, checked

PLUGIN = "napari-lsegdiff"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """What the user set; None is what the model suggests.

    Attributes
    ----------
    steps, sampler, seeds, flip, zoom
        As in `lsegdiff_core.config.SamplingConfig`; ``seeds`` is their number.
    device
        ``auto``, ``cpu``, ``cuda`` or ``mps``.
    threshold, opening, closing, smooth, fill_holes, keep_largest, min_confidence, min_area
        As in `lsegdiff_core.config.MorphologyConfig`.
    autosave_folder
        Where work in progress is kept; None is the default place.
    shortcuts
        The keys.
    """

    steps: int | None = None
    sampler: str | None = None
    seeds: int | None = None
    flip: bool | None = None
    zoom: bool | None = None
    device: str = "auto"
    threshold: float | None = None
    opening: float | None = None
    closing: float | None = None
    smooth: float | None = None
    fill_holes: bool | None = None
    keep_largest: bool | None = None
    min_confidence: float | None = None
    min_area: int | None = None
    autosave_folder: Path | None = None
    shortcuts: Shortcuts = DEFAULT

    def sampling(self, suggested: SamplingConfig) -> SamplingConfig:
        """Return what the model suggests, where the user set nothing else."""
        seeds = None if self.seeds is None else tuple(range(self.seeds))
        given = _given(steps=self.steps, sampler=self.sampler, seeds=seeds, flip=self.flip, zoom=self.zoom)
        return dataclasses.replace(suggested, **given)

    def morphology(self, suggested: MorphologyConfig) -> MorphologyConfig:
        """Return what the model suggests, where the user set nothing else."""
        names = (field.name for field in dataclasses.fields(MorphologyConfig))
        return dataclasses.replace(suggested, **_given(**{name: getattr(self, name) for name in names}))


UNSET = Settings()


def settings_file() -> Path:
    """Return where the settings stand: in napari's own file for the plugin, or in ``lsegdiff/settings.json``."""
    try:
        from napari.settings import get_plugin_settings

        path = get_plugin_settings(PLUGIN).config_path
    except (ImportError, KeyError, AssertionError):  # an old napari, a plugin that it does not list, or a broken file
        path = None
    return Path(path) if path else platformdirs.user_config_path("lsegdiff") / "settings.json"


def settings_place() -> str:
    """Return where the user changes the settings, in words."""
    import napari.settings

    there = hasattr(napari.settings, "get_plugin_settings")
    return "under File > Preferences > LSegDiff" if there else f"in {settings_file()}"


def load_settings() -> tuple[Settings, list[str]]:
    """Read the settings.

    Returns
    -------
    tuple
        The settings, and a line for each value that is not allowed: it names file and field, and the default holds.
    """
    path = settings_file()
    content, problems = _read(path)
    values: dict[str, Any] = {}
    for group, properties in _schema().items():
        given = content.pop(group, {})
        if not isinstance(given, Mapping):
            problems.append(f"{path}: {group}: expected named values, got {given!r}; the defaults hold")
            continue
        for name, value in given.items():
            wrong = _wrong(value, properties.get(name))
            if wrong:
                problems.append(f"{path}: {group}.{name}: {wrong}; the default holds")
            elif value != properties[name]["default"]:
                values[name] = _CONVERTED[name](value) if name in _CONVERTED else value
    keys = {field.name: values.pop(field.name) for field in dataclasses.fields(Shortcuts) if field.name in values}
    values["shortcuts"], wrong_keys = checked(keys)
    problems += [f"{path}: keys.{line}" for line in wrong_keys]
    problems += [f"{path}: {name}: is not known; it is left out" for name in content]
    for problem in problems:
        logger.warning("A value in the settings is not allowed: %s", problem.removeprefix(f"{path}: "))
    return Settings(**values), problems


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _yes(given: str) -> bool:
    return given == "yes"


_CONVERTED: dict[str, Callable[[Any], object]] = {
    "flip": _yes,
    "zoom": _yes,
    "opening": float,
    "closing": float,
    "smooth": float,
    "fill_holes": _yes,
    "keep_largest": _yes,
    "min_confidence": lambda given: None if given < 0 else float(given),
    "autosave_folder": lambda given: Path(given).expanduser(),
}


def _schema() -> dict[str, dict[str, Any]]:
    """Return the properties of each group as the manifest declares them, in the words of JSON Schema."""
    import yaml

    manifest = yaml.safe_load(Path(__file__).with_name("napari.yaml").read_text(encoding="utf-8"))
    groups = manifest["contributions"]["configurations"]
    return {name: group["properties"] for name, group in groups.items()}


def _read(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Return what the file holds and what is wrong with it; every JSON file is YAML as well."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, []
    except OSError as error:
        return {}, [f"{path}: cannot be read ({error.strerror}); the defaults hold"]
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        logger.warning("The settings cannot be understood: %s", error)
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f" from line {mark.line + 1} on"
        return {}, [f"{path}: cannot be understood{line}; correct or remove it, until then the defaults hold"]
    if content is not None and not isinstance(content, dict):
        return {}, [f"{path}: expected groups of named values, got {content!r}; the defaults hold"]
    return content or {}, []


def _wrong(value: Any, schema: Mapping[str, Any] | None) -> str:
    """Say what is wrong with a value; empty if nothing is."""
    if schema is None:
        return "is not known"
    from jsonschema import Draft202012Validator

    error = next(Draft202012Validator(schema).iter_errors(value), None)
    return "" if error is None else str(error.message)
