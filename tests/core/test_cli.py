from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import Image

from lsegdiff_core import cli
from lsegdiff_core.bundle import MANIFEST, load_networks, read_manifest
from lsegdiff_core.cli_options import fractions
from lsegdiff_core.config import MorphologyConfig, SamplingConfig, to_dict
from lsegdiff_core.data.phantom import draw_phantom
from lsegdiff_core.errors import LSegDiffError
from lsegdiff_core.studies import compute_settings
from lsegdiff_core.training.config import TrainConfig


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run the command line in this process; returns exit code, standard output and standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lsegdiff", *map(str, arguments)])
        try:
            cli.main()
            code = 0
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_help_teaches_and_shows_the_licence(run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    words = " ".join(out.split())
    assert "lsegdiff predict IMAGE" in words
    assert "Research and education only" in words
    assert "Not a medical device" in words
    assert "..." not in out.split("Commands:")[1], "a command's summary is cut off"


def test_demo_writes_mask_sidecar_and_overlay_and_prints_the_dice(run, tmp_path: Path) -> None:
    code, out, _ = run("demo", "--out", tmp_path / "demo")
    assert code == 0
    assert sorted(path.name for path in (tmp_path / "demo").iterdir()) == [
        "mask.png",
        "mask.provenance.json",
        "overlay.png",
    ]
    score = float(out.split("Dice")[1].split()[0])
    assert score >= 0.85


def test_demo_takes_ones_own_image(run, pairs: Path, tmp_path: Path) -> None:
    code, out, _ = run("demo", "--image", pairs / "images" / "f1.png", "--out", tmp_path / "demo")
    assert code == 0
    assert "Dice" not in out
    assert iio.imread(tmp_path / "demo" / "mask.png").shape == (60, 80)


def test_predict_writes_a_mask_and_its_provenance_for_each_image(run, pairs: Path, tiny_bundle: Path, tmp_path) -> None:
    out = tmp_path / "masks"
    code, text, _ = run(
        "predict", pairs / "images", "--bundle", tiny_bundle, "--out", out, "--steps", 3, "--seeds", 2, "--smooth", 1.5
    )
    assert code == 0
    assert "3/3" in text
    for seed in range(3):
        mask = iio.imread(out / f"f{seed}.png")
        assert mask.shape == (60, 80)
        assert set(np.unique(mask)) <= {0, 255}
        provenance = json.loads((out / f"f{seed}.provenance.json").read_text())
        assert provenance["sampling"] == {
            "steps": 3,
            "sampler": "ddim",
            "seeds": [0, 1],
            "flip": False,
            "zoom": False,
            "strength": 1.0,
        }
        assert provenance["morphology"]["smooth"] == 1.5
        assert provenance["image"]["name"] == f"f{seed}.png"


def test_predict_takes_the_passes_from_the_options_and_else_from_the_bundle(run, pairs, tiny_bundle, tmp_path) -> None:
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "flipping"))
    manifest = json.loads((bundle / MANIFEST).read_text())
    manifest["sampling"]["flip"] = True
    (bundle / MANIFEST).write_text(json.dumps(manifest))
    for options, expected in (((), (True, False)), (("--no-flip", "--zoom"), (False, True))):
        out = tmp_path / "masks"
        code, _, _ = run("predict", pairs / "images" / "f0.png", "--bundle", bundle, "--out", out, *options)
        assert code == 0
        sampling = json.loads((out / "f0.provenance.json").read_text())["sampling"]
        assert (sampling["flip"], sampling["zoom"]) == expected


def test_predict_refuses_two_images_of_one_name(run, pairs: Path, tiny_bundle: Path) -> None:
    code, _, err = run("predict", pairs / "images", pairs / "images" / "f1.png", "--bundle", tiny_bundle)
    assert code == 2
    assert "two files are named 'f1'" in err


def test_predict_never_writes_over_its_images(run, pairs: Path, tiny_bundle: Path) -> None:
    before = (pairs / "images" / "f1.png").read_bytes()
    code, _, err = run("predict", pairs / "images", "--bundle", tiny_bundle, "--out", pairs / "images")
    assert code == 2
    assert "would overwrite this image" in err
    assert (pairs / "images" / "f1.png").read_bytes() == before
    assert len(list((pairs / "images").iterdir())) == 3


def test_predict_leaves_out_what_it_cannot_read_and_says_so(run, pairs: Path, tiny_bundle: Path, tmp_path) -> None:
    (pairs / "images" / "f1.png").write_text("no image")
    code, _, err = run("predict", pairs / "images", "--bundle", tiny_bundle, "--out", tmp_path / "masks")
    assert code == 2
    assert "f1.png" in err
    assert "1 of 3 images were left out" in err
    assert sorted(path.name for path in (tmp_path / "masks").glob("*.png")) == ["f0.png", "f2.png"]


def test_evaluate_prints_and_writes_what_the_rows_say(run, pairs: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    code, out, _ = run("evaluate", "--data", pairs, "--bundle", tiny_bundle, "--steps", "1,4", "--json", result)
    assert code == 0
    data = json.loads(result.read_text())
    assert [row["steps"] for row in data["summary"]] == [1, 4]
    assert len(data["images"]) == 6
    for row in data["summary"]:
        mine = [image for image in data["images"] if image["steps"] == row["steps"]]
        assert row["n"] == 3
        assert row["dice"] == pytest.approx(np.mean([image["dice"] for image in mine]))
        assert row["iou"] == pytest.approx(np.mean([image["iou"] for image in mine]))
        assert row["dice_low"] <= row["dice"] <= row["dice_high"]
        assert {"hd95", "seconds_per_image", "reconstruction", "reconstruction_worst"} <= set(row)
        assert f"{row['dice']:.4f}" in out
    assert data["command"].startswith("lsegdiff evaluate")


def test_evaluate_explains_what_it_prints(run) -> None:
    _, out, _ = run("evaluate", "--help")
    words = " ".join(out.split())
    for column in ("single", "best", "agreement", "round trip", "false alarm", "lesions"):
        assert f"'{column}'" in words


def test_evaluate_measures_only_the_split(run, pairs: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "split.txt").write_text("f0\nf2\n")
    result = tmp_path / "result.json"
    run("evaluate", "--data", pairs, "--split", tmp_path / "split.txt", "--bundle", tiny_bundle, "--json", result)
    assert {row["name"] for row in json.loads(result.read_text())["images"]} == {"f0", "f2"}


def test_evaluate_counts_false_alarms_and_compares_samples(run, pairs, tiny_bundle, tmp_path, write_image) -> None:
    write_image(pairs / "masks" / "f1.png", np.zeros((60, 80), np.uint8))
    result = tmp_path / "result.json"
    options = ("--steps", 1, "--seeds", 2, "--flip", "--zoom", "--no-zoom", "--json", result)
    code, out, _ = run("evaluate", "--data", pairs, "--bundle", tiny_bundle, *options)
    assert code == 0
    assert "frames without a lesion: 1;" in out
    assert "false alarms 100%" in out
    data = json.loads(result.read_text())
    (line,) = data["summary"]
    assert (line["seeds"], line["flip"], line["zoom"], line["empty"]) == (2, True, False, 1)
    assert "ddim, 2 seeds, flip, certainty 0, lesions" in out
    assert f"single {line['single']:.4f}, best {line['best']:.4f}" in out
    assert {"bundle", "method", "commit", "device", "processor", "threads"} <= set(data["run"])


def test_evaluate_compares_certainties(run, pairs, tiny_bundle, tmp_path) -> None:
    result = tmp_path / "result.json"
    options = ("--steps", 1, "--min-confidence", "0,0.3,0.99", "--json", result)
    assert run("evaluate", "--data", pairs, "--bundle", tiny_bundle, *options)[0] == 0
    data = json.loads(result.read_text())
    assert [row["min_confidence"] for row in data["summary"]] == [0, 0.3, 0.99]
    found = [sum(row["found"] for row in data["images"] if row["min_confidence"] == least) for least in (0, 0.99)]
    assert found[1] < found[0]  # random weights are sure of nothing
    assert all(row["seconds"] > 0 for row in data["images"])


def test_bench_review_compares_orders(run, pairs, tiny_bundle, tmp_path) -> None:
    # the truth of one image is what the model gives; the phantoms' is not what random weights give
    model = ("--bundle", tiny_bundle, "--seeds", 2)
    run("predict", pairs / "images" / "f0.png", *model, "--out", tmp_path / "masks")
    (tmp_path / "masks" / "f0.png").replace(pairs / "masks" / "f0.png")
    result = tmp_path / "result.json"
    code, out, _ = run("bench", "review", "--data", pairs, *model, "--json", result)
    assert code == 0
    data = json.loads(result.read_text())
    assert [row["score"] for row in data["summary"]] == ["disagreement", "entropy", "doubt"]
    assert {row["name"]: row["dice"] for row in data["images"]}["f0"] == 1
    assert f"{data['summary'][0]['bad']} of 3 masks have a Dice below 0.8" in out


@pytest.fixture
def one(tmp_path: Path) -> tuple[object, ...]:
    """Options for a single image, and for a result."""
    (tmp_path / "one.txt").write_text("f1\n")
    return "--split", tmp_path / "one.txt", "--json", tmp_path / "result.json"


def test_bench_compute_compares_its_settings(run, pairs: Path, tiny_bundle: Path, tmp_path: Path, one) -> None:
    code, out, _ = run("bench", "compute", "--data", pairs, "--bundle", tiny_bundle, *one)
    assert code == 0
    data = json.loads((tmp_path / "result.json").read_text())
    assert [row["dice"] for row in data["summary"]] == [row["dice"] for row in data["images"]]
    assert len(data["summary"]) == len(compute_settings(MorphologyConfig()))
    assert all(f"{row['dice']:.4f}" in out for row in data["summary"])
    assert data["command"].startswith("lsegdiff bench compute --data")


def test_bench_interactive_compares_every_way_to_correct(
    run, pairs: Path, tiny_bundle: Path, direct_bundle: Path, tmp_path: Path, one
) -> None:
    options = ("--control", direct_bundle, "--touch", "stroke", "--noisy", "--strengths", "0.5", *one)
    code, out, _ = run("bench", "interactive", "--data", pairs, "--bundle", tiny_bundle, *options)
    assert code == 0
    data = json.loads((tmp_path / "result.json").read_text())
    ways = [("paint", 1.0), ("re-diffuse", 0.5), ("control", 1.0)]
    for rows in (data["summary"], data["images"]):
        assert [(row["method"], row["strength"]) for row in rows] == ways
        assert {(row["touch"], row["noisy"]) for row in rows} == {("stroke", True)}
    for row, image in zip(data["summary"], data["images"], strict=True):
        assert (row["n"], image["name"]) == (1, "f1")
        assert row["iou"] == image["iou"]
        assert "  ".join(f"{score:.4f}" for score in row["iou"]) in out
    paint, half, control = (row["iou"] for row in data["images"])
    assert paint[0] == half[0] != control[0], "before the first touch a model's masks are one"
    assert half != paint


def test_bench_interactive_of_a_model_that_is_right_needs_no_touch(run, pairs, tiny_bundle, tmp_path, one) -> None:
    run("predict", pairs / "images" / "f1.png", "--bundle", tiny_bundle, "--out", tmp_path / "out")
    shutil.copy(tmp_path / "out" / "f1.png", pairs / "masks" / "f1.png")
    code, out, _ = run("bench", "interactive", "--data", pairs, "--bundle", tiny_bundle, *one)
    assert code == 0
    assert out.count("no time a touch") == 2
    summary = json.loads((tmp_path / "result.json").read_text())["summary"]
    assert [(row["method"], row["strength"]) for row in summary] == [("paint", 1.0), ("re-diffuse", 1.0)]
    assert {(row["touch"], row["noisy"], row["noc90"], row["never90"]) for row in summary} == {
        ("disc", False, 0.0, 0.0)
    }


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--touch", "finger", "touch: unknown name 'finger'; choose one of disc, stroke"),
        ("--strengths", "0.5,much", "--strengths: '0.5,much' is not a list of numbers such as 0.5,1"),
        ("--strengths", "1;0.5", "--strengths: '1;0.5' is not a list of numbers"),
        ("--control", "missing", "bundle 'missing': not found"),
    ],
)
def test_bad_options_of_the_interactive_bench_are_named_before_anything_is_measured(
    run, pairs: Path, tiny_bundle: Path, option: str, value: str, words: str
) -> None:
    code, out, err = run("bench", "interactive", "--data", pairs, "--bundle", tiny_bundle, option, value)
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert words in err


@pytest.mark.parametrize("value", ["2", "nan"])
def test_a_strength_out_of_range_is_refused_by_name(run, pairs: Path, tiny_bundle: Path, tmp_path, one, value) -> None:
    code, _, err = run("bench", "interactive", "--data", pairs, "--bundle", tiny_bundle, "--strengths", value, *one)
    assert code == 2
    assert "strength" in err
    assert f"{float(value)} is not possible" in err
    assert not (tmp_path / "result.json").exists()


@pytest.mark.parametrize(
    ("text", "expected"), [("1", [1.0]), (" 0.5, 1,", [0.5, 1.0]), ("1,0.25,1.0", [1.0, 0.25]), ("", [])]
)
def test_a_list_of_fractions_holds_each_once_in_its_order(text: str, expected: list[float]) -> None:
    assert fractions(text, "--strengths") == expected


@pytest.mark.parametrize("text", ["much", "0.5;1", "0.5 1", "0,5,x", "1e"])
def test_what_is_no_list_of_fractions_is_refused_by_the_options_name(text: str) -> None:
    with pytest.raises(LSegDiffError, match=f"^--strengths: '{text}' is not a list of numbers"):
        fractions(text, "--strengths")


def test_bench_throughput_measures_every_combination(run, tiny_bundle: Path, tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    options = ("--batches", "1,2", "--precisions", "float32,bf16", "--rounds", 1, "--json", result)
    code, out, _ = run("bench", "throughput", "--bundle", tiny_bundle, "--device", "cpu", *options)
    assert code == 0
    rows = json.loads(result.read_text())["summary"]
    assert [(row["batch"], row["steps"], row["precision"]) for row in rows] == [
        (batch, steps, precision) for batch in (1, 2) for steps in (1, 4) for precision in ("float32", "bf16")
    ]
    for row in rows:
        assert row["images_per_second"] == pytest.approx(row["batch"] / row["seconds"])
        assert f"{row['images_per_second']:.1f}" in out
        assert (row["disagreement"] == 0) if row["precision"] == "float32" else (row["disagreement"] < 0.5)


@pytest.mark.parametrize(
    ("command", "option", "value", "words"),
    [
        (
            "throughput",
            "--precisions",
            "float32,fp8",
            "--precisions: unknown name 'fp8'; choose of float32, tf32, bf16",
        ),
        ("throughput", "--modes", "fast", "--modes: unknown name 'fast'"),
        ("throughput", "--batches", "1,many", "--batches: '1,many' is not a list of whole numbers"),
        ("throughput", "--batches", "0", "--batches: 0"),
        ("throughput", "--bundle", "missing", "bundle 'missing': not found"),
        ("compute", "--data", "missing", "missing"),
        ("interactive", "--data", "missing", "missing"),
    ],
)
def test_bad_options_of_a_bench_give_one_line_that_names_them(
    run, tiny_bundle: Path, command: str, option: str, value: str, words: str
) -> None:
    bundle = () if option == "--bundle" else ("--bundle", tiny_bundle)
    code, _, err = run("bench", command, *bundle, "--device", "cpu", option, value)
    assert code == 2
    assert err.count("\n") == 1
    assert words in err


def test_bench_latency_prints_every_stage(run, tiny_bundle: Path, tmp_path: Path) -> None:
    result = tmp_path / "latency.json"
    code, out, _ = run("bench", "latency", "--bundle", tiny_bundle, "--rounds", 2, "--json", result)
    assert code == 0
    stages = ["read", "geometry", "encoder", "denoiser step", "decoder", "geometry back", "morphology"]
    assert all(stage in out for stage in stages)
    data = json.loads(result.read_text())
    assert [row["stage"] for row in data["summary"]][:7] == stages
    assert len(data["images"]) == 2


def test_doctor_replays_the_bundle(run, tiny_bundle: Path) -> None:
    code, out, _ = run("doctor", "--bundle", tiny_bundle, "--device", "cpu")
    assert code == 0
    assert "replay" in out
    assert "Passed" in out
    assert "none needed" in out


def test_doctor_says_when_the_replay_differs(run, tiny_bundle: Path, tmp_path: Path) -> None:
    import hashlib

    from safetensors.numpy import load_file, save

    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))
    arrays = load_file(folder / "replay.safetensors")
    content = save({"image": arrays["image"], "probability": 1 - arrays["probability"]})
    (folder / "replay.safetensors").write_bytes(content)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"]["replay.safetensors"] = hashlib.sha256(content).hexdigest()
    (folder / MANIFEST).write_text(json.dumps(manifest))
    code, _, err = run("doctor", "--bundle", folder, "--device", "cpu")
    assert code == 2
    assert "Not passed: on cpu the model gives another result" in err


def test_a_bundle_that_gives_nan_is_refused(run, tiny_bundle: Path, pairs: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, "latent_scale": 0.0}))
    for command in (("doctor",), ("predict", pairs / "images", "--out", tmp_path / "masks")):
        code, _, err = run(*command, "--bundle", folder, "--device", "cpu")
        assert code == 2
        assert "not finite" in err
    assert not (tmp_path / "masks").exists()


def test_train_makes_a_bundle_that_predicts_and_goes_on_where_it_stopped(
    run, tiny_config: TrainConfig, pairs: Path, tmp_path: Path
) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(to_dict(tiny_config)))
    arguments = ("train", config, "--data", pairs, "--out", tmp_path / "run")
    code, out, _ = run(*arguments)
    assert code == 0
    assert "images/s" in out
    assert "min left" in out
    bundle = tmp_path / "run" / "bundle"
    assert run("predict", pairs / "images", "--bundle", bundle, "--out", tmp_path / "masks")[0] == 0
    code, out, _ = run(*arguments)
    assert code == 0
    assert "images/s" not in out, "a finished training trains again"
    assert run(*arguments, "--weights", "last", "--bundle", tmp_path / "last")[0] == 0
    assert json.loads((tmp_path / "last" / MANIFEST).read_text())["training"]["validation"]["step"] == 4
    changed = tmp_path / "changed.json"
    changed.write_text(json.dumps({**to_dict(tiny_config), "seed": 1}))
    code, _, err = run("train", changed, "--data", pairs, "--out", tmp_path / "run")
    assert code == 2
    assert "another config" in err
    code, out, _ = run("train", config, "--data", pairs, "--out", tmp_path / "second", "--init", bundle)
    assert code == 0


def test_train_can_keep_the_mask_vae_that_it_starts_from(run, tiny_config, tiny_bundle, pairs, tmp_path) -> None:
    config = tmp_path / "config.json"
    plain = to_dict(tiny_config)
    plain["vae"]["steps"] = 0
    config.write_text(json.dumps(plain))
    arguments = ("train", config, "--data", pairs, "--out", tmp_path / "run")
    code, _, err = run(*arguments)
    assert code == 2
    assert "vae.steps: 0 keeps the mask VAE" in err
    code, _, err = run(*arguments, "--init", tiny_bundle)
    assert code == 0, err
    before, after = ((folder / "vae.safetensors").read_bytes() for folder in (tiny_bundle, tmp_path / "run" / "bundle"))
    assert before == after
    assert read_manifest(tmp_path / "run" / "bundle").latent_scale == read_manifest(tiny_bundle).latent_scale
    shutil.rmtree(tmp_path / "run")  # tens of megabytes, which pytest would keep


def test_train_can_blend_what_it_learnt_with_what_it_started_from(
    run, tiny_config: TrainConfig, tiny_bundle: Path, pairs: Path, tmp_path
) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(to_dict(replace(tiny_config, vae=replace(tiny_config.vae, steps=0)))))
    arguments = ("train", config, "--data", pairs, "--out", tmp_path / "run", "--weights", "last")
    code, _, err = run(*arguments, "--blend", 0.25)
    assert code == 2
    assert "--blend: needs --init" in err
    networks = []
    for share in (1.0, 0.25):
        target = tmp_path / str(share)
        assert run(*arguments, "--init", tiny_bundle, "--blend", share, "--bundle", target)[0] == 0
        networks.append(load_networks(target)[1])
    trained, blended = networks
    _, start = load_networks(tiny_bundle)
    for name in ("encoder", "hint_encoder", "denoiser"):
        for key, value in blended.components[name].state_dict().items():
            if value.is_floating_point():
                one, other = (part.components[name].state_dict()[key] for part in (start, trained))
                torch.testing.assert_close(value, 0.75 * one + 0.25 * other, atol=2e-3, rtol=2e-3)
    assert json.loads((tmp_path / "0.25" / MANIFEST).read_text())["training"]["blend"]["share"] == 0.25


def test_blending_needs_the_mask_vae_of_the_start(
    run, tiny_config: TrainConfig, tiny_bundle: Path, pairs: Path, tmp_path
) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(to_dict(tiny_config)))
    arguments = ("train", config, "--data", pairs, "--out", tmp_path / "run", "--init", tiny_bundle)
    code, _, err = run(*arguments, "--blend", 0.5)
    assert code == 2
    assert "blend: the training changed the mask VAE" in err


def test_train_takes_method_and_seed_from_its_options(run, tiny_config: TrainConfig, pairs: Path, tmp_path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(to_dict(tiny_config)))
    out = tmp_path / "run"
    code, _, _ = run("train", config, "--data", pairs, "--out", out, "--method", "direct", "--seed", 3)
    assert code == 0
    manifest = read_manifest(out / "bundle")
    assert manifest.model.method == "direct"
    assert manifest.sampling == SamplingConfig(steps=1, seeds=(0, 1, 2, 3), flip=True)
    assert manifest.training["config"]["seed"] == 3
    assert run("doctor", "--bundle", out / "bundle", "--device", "cpu")[0] == 0
    shutil.rmtree(out)  # tens of megabytes, which pytest would keep


def make_truncated(folder: Path) -> Path:
    path = folder / "truncated.jpg"
    Image.fromarray(draw_phantom(0, 60, 80).image).save(path)
    path.write_bytes(path.read_bytes()[:400])
    return path


def make_text(folder: Path) -> Path:
    path = folder / "text.png"
    path.write_text("not an image")
    return path


def make_empty_folder(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def make_nan(folder: Path) -> Path:
    path = folder / "nan.tif"
    Image.fromarray(np.full((20, 30), np.nan, np.float32)).save(path)
    return path


@pytest.mark.parametrize("make", [make_truncated, make_text, make_empty_folder, make_nan])
def test_bad_images_give_one_line_and_nothing_half_written(run, make, tiny_bundle: Path, tmp_path: Path) -> None:
    path, out = make(tmp_path), tmp_path / "masks"
    code, _, err = run("predict", path, "--bundle", tiny_bundle, "--out", out)
    assert code == 2
    assert err.count("\n") == 1
    assert path.name in err
    assert not out.exists() or not list(out.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--steps", 0), "steps: 0 is outside"),
        (("--steps", 51), "steps: 51 is outside"),
        (("--sampler", "euler"), "sampler: unknown name 'euler'"),
        (("--seeds", 0), "--seeds: 0"),
        (("--threshold", 1.5), "threshold: 1.5"),
        (("--min-confidence", 1), "min_confidence: 1.0 is outside"),
        (("--opening", -1), "opening: -1.0 is not a length"),
        (("--format", "gif"), "--format: unknown name 'gif'"),
        (("--device", "quantum"), "device: unknown name 'quantum'"),
        (("--bundle", "missing"), "bundle 'missing': not found"),
    ],
)
def test_bad_options_give_one_line_that_names_them(run, pairs: Path, tiny_bundle: Path, arguments, words) -> None:
    bundle = () if "--bundle" in arguments else ("--bundle", tiny_bundle)
    code, _, err = run("predict", pairs / "images", *bundle, *arguments)
    assert code == 2
    assert err.count("\n") == 1
    assert words in err


def test_a_mask_without_image_is_named(run, pairs: Path, tiny_bundle: Path) -> None:
    (pairs / "images" / "f1.png").unlink()
    code, _, err = run("evaluate", "--data", pairs, "--bundle", tiny_bundle)
    assert code == 2
    assert "f1.png: mask without image" in err


def test_an_image_without_mask_is_named(run, pairs: Path, tiny_bundle: Path) -> None:
    (pairs / "masks" / "f1.png").unlink()
    code, _, err = run("evaluate", "--data", pairs, "--bundle", tiny_bundle)
    assert code == 2
    assert "f1.png: image without mask" in err


def test_an_unknown_key_in_a_config_is_named(run, pairs: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"denoiser": {"stepz": 3}}')
    code, _, err = run("train", config, "--data", pairs, "--out", tmp_path / "run")
    assert code == 2
    assert "config.json.denoiser: unknown key 'stepz'" in err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"denoiser": {"batch": 0}}, "denoiser: batch: 0 is not allowed"),
        ({"denoiser": {"lr": -1.0}}, "denoiser: lr: -1.0 is not allowed"),
        ({"vae": {"log_every": 0}}, "vae: log_every: 0 is not allowed"),
        ({"seed": -1}, "seed: -1 is not allowed"),
        ({"data": {"phantoms": -1}}, "data: phantoms: -1 is not allowed"),
        ({"model": {"vae": {"size": 128}}}, "model: encoder.size: 256 is not allowed"),
        ({"model": {"vae": {"latent_channels": 2}}}, "model: denoiser.latent_channels: 4 is not allowed"),
        ({"model": {"denoiser": {"widths": [100, 160, 224]}}}, "model: width: 100 is not allowed"),
    ],
)
def test_a_config_that_cannot_be_trained_is_refused_before_anything_is_written(
    run, pairs: Path, tmp_path: Path, change, words
) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(change))
    code, _, err = run("train", config, "--data", pairs, "--out", tmp_path / "run")
    assert code == 2
    assert words in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--weights", "newest", "weights: unknown name 'newest'"),
        ("--backbone", "no.safetensors", "no.safetensors: not"),
        ("--method", "gan", "method: gan is not allowed"),
        ("--seed", -1, "seed: -1 is not allowed"),
    ],
)
def test_what_training_needs_later_is_checked_before_it_starts(run, pairs, tmp_path, option, value, words) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"data": {"phantoms": 2, "validation_phantoms": 1}}')
    code, _, err = run("train", config, "--data", pairs, "--out", tmp_path / "run", option, value)
    assert code == 2
    assert words in err
    assert not (tmp_path / "run").exists()


def test_training_starts_from_a_bundle_of_its_own_shape_only(run, pairs: Path, tiny_bundle: Path, tmp_path) -> None:
    config = tmp_path / "config.json"
    config.write_text("{}")
    code, _, err = run("train", config, "--data", pairs, "--out", tmp_path / "run", "--init", tiny_bundle)
    assert code == 2
    assert "holds other networks" in err


def test_a_write_that_fails_half_way_leaves_the_old_result(run, pairs, tiny_bundle, tmp_path, monkeypatch) -> None:
    result = tmp_path / "result.json"
    result.write_text("old")

    def fail(self: Path, *_: object, **__: object) -> None:
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", fail)
    code, _, err = run("evaluate", "--data", pairs, "--bundle", tiny_bundle, "--json", result)
    assert code == 2
    assert "No space left on device" in err
    assert result.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["result.json"]
