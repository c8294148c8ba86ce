from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from lsegdiff_core.bundle import (
    FORMAT,
    MANIFEST,
    available_bundles,
    bundle_hash,
    find_bundle,
    load_networks,
    read_manifest,
    save_bundle,
)
from lsegdiff_core.errors import LSegDiffError


@pytest.fixture
def copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))


def _edit(folder: Path, **changes: object) -> None:
    data = json.loads((folder / MANIFEST).read_text())
    data.update(changes)
    (folder / MANIFEST).write_text(json.dumps(data))


def test_what_is_saved_is_loaded_again_to_half_precision(tiny_bundle: Path, tmp_path: Path) -> None:
    manifest, networks = load_networks(tiny_bundle)
    again = save_bundle(tmp_path / "again", manifest, networks)
    _, loaded = load_networks(tmp_path / "again")
    assert again.model == manifest.model
    for name, network in networks.components.items():
        for key, value in network.state_dict().items():
            assert torch.equal(value, loaded.components[name].state_dict()[key]), (name, key)


def test_loaded_networks_are_frozen_and_in_evaluation_mode(tiny_bundle: Path) -> None:
    _, networks = load_networks(tiny_bundle)
    for network in networks.components.values():
        assert not network.training
        assert not any(parameter.requires_grad for parameter in network.parameters())


def test_a_changed_byte_is_found(copy: Path) -> None:
    path = copy / "denoiser.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(LSegDiffError, match=r"denoiser\.safetensors: its sha256 differs"):
        load_networks(copy)


def test_a_missing_file_is_named(copy: Path) -> None:
    (copy / "vae.safetensors").unlink()
    with pytest.raises(LSegDiffError, match=r"vae\.safetensors: cannot be read"):
        load_networks(copy)


def test_a_pickle_is_refused_even_with_the_right_hash(copy: Path) -> None:
    import hashlib

    content = pickle.dumps({"weight": [1.0]})
    (copy / "vae.safetensors").write_bytes(content)
    files = json.loads((copy / MANIFEST).read_text())["files"]
    _edit(copy, files={**files, "vae.safetensors": hashlib.sha256(content).hexdigest()})
    with pytest.raises(LSegDiffError, match="not a safetensors file"):
        load_networks(copy)


def test_weights_of_another_shape_are_refused(copy: Path) -> None:
    model = json.loads((copy / MANIFEST).read_text())["model"]
    model["vae"]["width"] = 24
    _edit(copy, model=model)
    with pytest.raises(LSegDiffError, match="weights do not fit the model"):
        load_networks(copy)


def test_a_newer_format_asks_for_an_update(copy: Path) -> None:
    _edit(copy, format=FORMAT + 1)
    with pytest.raises(LSegDiffError, match="newer than this version reads"):
        read_manifest(copy)


def test_an_unknown_key_is_named(copy: Path) -> None:
    _edit(copy, flavour="sweet")
    with pytest.raises(LSegDiffError, match="unknown key 'flavour'"):
        read_manifest(copy)


def test_an_older_format_says_what_to_do(copy: Path) -> None:
    _edit(copy, format=FORMAT - 1)
    with pytest.raises(LSegDiffError, match=r"format 1 is of an earlier version.*train it anew"):
        load_networks(copy)


def test_a_manifest_without_format_is_refused(copy: Path) -> None:
    (copy / MANIFEST).write_text("[]")
    with pytest.raises(LSegDiffError, match="no format number"):
        read_manifest(copy)


def test_a_missing_bundle_lists_the_bundled_names(tmp_path: Path) -> None:
    with pytest.raises(LSegDiffError, match=r"not found.*polyp"):
        find_bundle(str(tmp_path / "nothing"))


def test_the_hash_follows_the_manifest(copy: Path) -> None:
    before = bundle_hash(copy)
    _edit(copy, description="another")
    assert bundle_hash(copy) != before


def test_every_bundled_model_is_small_licensed_and_unpickled() -> None:
    assert "polyp" in available_bundles()
    for name in available_bundles():
        folder = find_bundle(name)
        assert sum(path.stat().st_size for path in folder.iterdir()) <= 20e6
        assert (folder / "LICENSE.md").is_file()
        assert "research and education" in read_manifest(folder).licence.lower()
        assert {path.suffix for path in folder.iterdir()} <= {".json", ".md", ".safetensors"}
        load_networks(folder)
