"""Two processes, started as a user would start them."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lsegdiff_core.config import to_dict
from lsegdiff_core.training import parallel
from lsegdiff_core.training.checkpoint import load_checkpoint
from lsegdiff_core.training.config import TrainConfig

# PyTorch for Windows is built without libuv, which torchrun asks for (pytorch/pytorch#139990)
starts_two = pytest.mark.skipif(os.name == "nt", reason="torchrun does not start on Windows")

# Guesses a mask's share from the mean colour; nothing is random, so that one process and two do the same.
LINE = """
import sys
from pathlib import Path

import torch

from lsegdiff_core.training import parallel
from lsegdiff_core.training.config import OptimConfig
from lsegdiff_core.training.datasets import Store
from lsegdiff_core.training.loop import fit


class Line:
    def __init__(self):
        torch.manual_seed(parallel.rank())  # the first one's weights count
        self.model = torch.nn.Linear(3, 1)

    def groups(self, config):
        return [{"params": list(self.model.parameters()), "lr": config.lr}]

    def loss(self, images, masks, step, generator):
        guess = self.model(images.float().mean(dim=(2, 3)) / 255)[:, 0]
        loss = ((guess - masks.float().mean(dim=(1, 2, 3)) / 255) ** 2).mean()
        return loss, {"loss": loss.item()}

    def score(self, model):
        return {"score": 1.0}


generator = torch.Generator().manual_seed(0)
images = torch.randint(1, 256, (7, 3, 4, 4), dtype=torch.uint8, generator=generator)
masks = torch.randint(0, 256, (7, 1, 4, 4), dtype=torch.uint8, generator=generator)
store = Store(tuple("abcdefg"), images, masks, tuple(range(7)))
config = OptimConfig(steps=12, batch=4, lr=0.1, warmup=2, validate_every=5)
with parallel.processes(torch.device("cpu")):
    for report in fit(Line(), store, config, 3, Path(sys.argv[1])):
        pass
"""


def torchrun(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=300)


@starts_two
def test_two_processes_learn_what_one_does(tmp_path: Path) -> None:
    script = tmp_path / "line.py"
    script.write_text(LINE)
    subprocess.run([sys.executable, script, tmp_path / "one"], check=True, timeout=300)
    done = torchrun(script, tmp_path / "two")
    assert done.returncode == 0, done.stderr
    one, two = (load_checkpoint(tmp_path / name / "last.pt") for name in ("one", "two"))
    assert two["step"] == 12
    for name, value in one["model"].items():
        torch.testing.assert_close(two["model"][name], value)


@starts_two
def test_a_training_of_two_processes_is_written_once(tiny_config: TrainConfig, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(to_dict(tiny_config)))
    out = tmp_path / "run"
    done = torchrun("-m", "lsegdiff_core", "train", config, "--data", tmp_path, "--out", out)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("wrote") == 1
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["stage"] == "denoiser" and not row["validation"]] == [2, 4]
    assert (out / "bundle" / "bundle.json").is_file()


@starts_two
def test_a_batch_that_cannot_be_shared_is_refused(tiny_config: TrainConfig, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(to_dict(replace(tiny_config, vae=replace(tiny_config.vae, batch=3)))))
    done = torchrun("-m", "lsegdiff_core", "train", config, "--data", tmp_path, "--out", tmp_path / "run")
    assert done.returncode != 0
    assert "batch: 3 cannot be shared by 2 processes; take a multiple" in done.stderr


def test_alone_it_is_the_first_and_only_process() -> None:
    assert (parallel.rank(), parallel.count()) == (0, 1)
