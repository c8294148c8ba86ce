import json
from pathlib import Path
from typing import Any

import pytest

from lsegdiff_core.config import (
    MAX_STEPS,
    SAMPLER_NAMES,
    DenoiserConfig,
    MaskVAEConfig,
    ModelConfig,
    MorphologyConfig,
    SamplingConfig,
    from_dict,
    load_config,
    to_dict,
)
from lsegdiff_core.data.splits import read_split
from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.training.config import AugmentConfig, DataConfig, OptimConfig, SourceConfig, TrainConfig

CONFIGS = Path(__file__).parents[2] / "configs"

TRAINING = TrainConfig(
    name="x",
    classes=("polyp", "adenoma"),
    seed=7,
    model=ModelConfig(vae=MaskVAEConfig(width=64), denoiser=DenoiserConfig(widths=(8, 16, 24))),
    data=DataConfig(sources=(SourceConfig("a", exclude=("t.txt", "u.txt")), SourceConfig("b", validation="v.txt"))),
    vae=OptimConfig(steps=3, lr=0.5),
)


@pytest.mark.parametrize(
    "config",
    [
        TrainConfig(),
        TRAINING,
        SamplingConfig(steps=7, sampler="heun", seeds=(3, 1), flip=True, zoom=True, strength=0.3),
        MorphologyConfig(opening=2.5, keep_largest=True, min_confidence=0.3),
    ],
    ids=["defaults", "training", "sampling", "morphology"],
)
def test_config_survives_json(config: Any) -> None:
    text = json.dumps(to_dict(config))
    assert from_dict(type(config), json.loads(text)) == config


def test_plain_form_holds_lists_and_dicts_only() -> None:
    plain = to_dict(TRAINING)
    assert plain["model"]["denoiser"]["widths"] == [8, 16, 24]
    assert plain["data"]["sources"][0]["exclude"] == ["t.txt", "u.txt"]


def test_fields_that_are_left_out_keep_their_defaults() -> None:
    config = from_dict(TrainConfig, {"vae": {"steps": 3}})
    assert config.vae == OptimConfig(steps=3)
    assert config.denoiser == OptimConfig()
    assert config.augment == AugmentConfig()


def test_whole_number_is_taken_for_a_float() -> None:
    value = from_dict(OptimConfig, {"lr": 1}).lr
    assert value == 1.0
    assert isinstance(value, float)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"sede": 1}, r"config: unknown key 'sede'; known keys are .*seed"),
        ({"model": {"vae": {"widht": 1}}}, r"config\.model\.vae: unknown key 'widht'"),
        (
            {"data": {"sources": [{"folder": "a"}, {"folder": "b", "spilt": ""}]}},
            r"config\.data\.sources\[1\]: .*'spilt'",
        ),
        ({"data": {"sources": [{}]}}, r"config\.data\.sources\[0\]: .*folder"),
        ({"seed": "1"}, r"config\.seed: expected int, got '1'"),
        ({"seed": 1.0}, r"config\.seed: expected int"),
        ({"seed": True}, r"config\.seed: expected int, got True"),
        ({"seed": None}, r"config\.seed: expected int, got None"),
        ({"name": 3}, r"config\.name: expected str, got 3"),
        ({"vae": {"lr": "fast"}}, r"config\.vae\.lr: expected float, got 'fast'"),
        ({"vae": {"lr": True}}, r"config\.vae\.lr: expected float, got True"),
        ({"vae": 3}, r"config\.vae: expected an object .*got int"),
        ({"vae": [1]}, r"config\.vae: expected an object .*got list"),
        ({"classes": "polyp"}, r"config\.classes: expected a list, got str"),
        ({"classes": ["polyp", 2]}, r"config\.classes\[1\]: expected str, got 2"),
        ({"model": {"denoiser": {"widths": [8, "16"]}}}, r"config\.model\.denoiser\.widths\[1\]: expected int"),
        ([], r"config: expected an object .*got list"),
        ("x", r"config: expected an object .*got str"),
        (None, r"config: expected an object .*got NoneType"),
    ],
)
def test_mistake_is_named_with_its_path(data: Any, message: str) -> None:
    with pytest.raises(LSegDiffError, match=message):
        from_dict(TrainConfig, data)


def test_flag_is_not_a_number() -> None:
    with pytest.raises(LSegDiffError, match=r"config\.fill_holes: expected bool, got 1"):
        from_dict(MorphologyConfig, {"fill_holes": 1})


@pytest.mark.parametrize("content", [b"", b"{", b"{'a': 1}", b"\xff\xfe", b'{"seed": 1,}', b"[" * 100_000])
def test_file_that_is_not_json_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(LSegDiffError, match=r"broken\.json: is damaged or no JSON file"):
        load_config(TrainConfig, path)


def test_unknown_method_is_refused_and_the_known_ones_are_named() -> None:
    assert ModelConfig(method="direct") != ModelConfig()
    with pytest.raises(LSegDiffError, match="method: gan is not allowed; it must be one of diffusion, direct"):
        ModelConfig(method="gan")


@pytest.mark.parametrize("name", ["missing.json", "."])
def test_file_that_cannot_be_read_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(LSegDiffError, match=r"cannot be read"):
        load_config(TrainConfig, tmp_path / name)


def test_mistake_in_a_file_names_file_and_field(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text('{"vae": {"stpes": 1}}')
    with pytest.raises(LSegDiffError, match=r"c\.json\.vae: unknown key 'stpes'"):
        load_config(TrainConfig, path)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*/*.json")), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_committed_config_is_valid_and_never_trains_on_a_test_list(path: Path) -> None:
    sources = load_config(TrainConfig, path).data.sources
    assert sources
    for source in sources:
        # PolypGen has no test list
        assert bool(source.exclude) == (source.folder != "polypgen"), source.folder
        names = read_split(path.parent / source.validation)
        assert names
        assert names == sorted(names)


@pytest.mark.parametrize("steps", [1, MAX_STEPS])
@pytest.mark.parametrize("sampler", SAMPLER_NAMES)
def test_sampling_takes_what_exists(steps: int, sampler: str) -> None:
    assert SamplingConfig(steps, sampler, (0, 5)).seeds == (0, 5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 0}, "steps: 0 is outside 1 to 50"),
        ({"steps": 51}, "steps: 51 is outside 1 to 50"),
        ({"steps": -1}, "steps: -1"),
        ({"sampler": "euler"}, "sampler: unknown name 'euler'; choose one of ddim, heun, dpmpp_2m, ddpm"),
        ({"sampler": "DDIM"}, "sampler: unknown name 'DDIM'"),
        ({"seeds": ()}, "seeds: the list is empty"),
        ({"strength": -0.1}, r"strength: -0.1 is not allowed; it must be in \[0, 1\]"),
        ({"strength": 1.01}, "strength: 1.01 is not allowed"),
        ({"strength": float("nan")}, "strength: nan is not allowed"),
    ],
)
def test_sampling_outside_its_range_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(LSegDiffError, match=message):
        SamplingConfig(**values)
    with pytest.raises(LSegDiffError, match=message):
        from_dict(SamplingConfig, json.loads(json.dumps(values)))


@pytest.mark.parametrize(
    ("flip", "zoom", "total"), [(False, False, 3), (True, False, 9), (False, True, 6), (True, True, 18)]
)
def test_every_view_and_pass_takes_all_steps(flip: bool, zoom: bool, total: int) -> None:
    assert SamplingConfig(steps=3, seeds=(5, 1, 2, 7), flip=flip, zoom=zoom).total_steps == total
    assert SamplingConfig(steps=3, seeds=(5, 1, 2, 7), flip=flip, zoom=zoom, strength=0.01).total_steps == total
    assert SamplingConfig(steps=3, seeds=(5, 1, 2, 7), flip=flip, zoom=zoom, strength=0).total_steps == 0


@pytest.mark.parametrize("threshold", [0.0, 1.0, -0.1, 1.1, float("nan")])
def test_threshold_lies_strictly_between_zero_and_one(threshold: float) -> None:
    with pytest.raises(LSegDiffError, match=r"threshold: .* is outside"):
        MorphologyConfig(threshold=threshold)


@pytest.mark.parametrize("value", [-0.1, 1.0, float("nan")])
def test_confidence_lies_between_zero_and_one(value: float) -> None:
    with pytest.raises(LSegDiffError, match=r"min_confidence: .* is outside \[0, 1\)"):
        MorphologyConfig(min_confidence=value)


@pytest.mark.parametrize("name", ["opening", "closing", "min_area", "smooth"])
def test_negative_length_is_refused_by_name(name: str) -> None:
    with pytest.raises(LSegDiffError, match=f"{name}: -1 is not a length"):
        MorphologyConfig(**{name: -1})
    assert getattr(MorphologyConfig(**{name: 0}), name) == 0


def test_seeds_take_turns_at_the_views() -> None:
    assert SamplingConfig(seeds=(6, 0, 5, 4), flip=True).views == {(-1, 1): (0,), (1, 1): (1, 3), (1, -1): (2,)}
    assert SamplingConfig(seeds=(6, 0, 5)).views == {(1, 1): (0, 1, 2)}


def test_a_stroke_is_answered_by_the_seeds_that_look_at_the_image_as_it_is() -> None:
    for seeds, mirrored, answering in (((0, 1, 2, 3, 4), True, (0, 4)), ((3, 5), True, (3,)), ((3, 5), False, (3, 5))):
        sampling = SamplingConfig(steps=2, seeds=seeds, flip=mirrored, zoom=True)
        assert sampling.unmirrored == SamplingConfig(steps=2, seeds=answering, zoom=True)
