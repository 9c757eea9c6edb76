"""A run that is killed and resumed ends exactly as the unbroken one: same losses, same weights, same best model."""

import csv
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from common.datasets import phantoms

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
# syncs a run makes: model.pt, model.json, history.csv, last.pt an epoch (the first two only for a better model)
SYNCS = range(3, 12)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantoms")
    phantoms.write(root, count=20, size=64, seed=2, inbox=0)
    return root


# of the clock: no part of what a resumed run must repeat
TIMES = ("seconds", "images_per_second", "data_share")


def history(folder: Path) -> list[dict]:
    rows = list(csv.DictReader((folder / "history.csv").open()))
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]


def differences(a, b, name="") -> list[str]:
    """Where two nested states differ in a bit."""
    if isinstance(a, torch.Tensor):
        return [] if torch.equal(a, b) else [name]
    if isinstance(a, dict):
        assert a.keys() == b.keys(), name
        return [d for k in a if k not in (*TIMES, "config") for d in differences(a[k], b[k], f"{name}/{k}")]
    if isinstance(a, list):
        assert len(a) == len(b), name
        return [d for i, (x, y) in enumerate(zip(a, b, strict=True)) for d in differences(x, y, f"{name}/{i}")]
    return [] if a == b else [f"{name}: {a} {b}"]


def same_run(a: Path, b: Path) -> None:
    assert len(history(a)) == 6
    assert history(a) == history(b)
    for name in ("last.pt", "model.pt"):
        assert differences(*(torch.load(f / name, weights_only=True) for f in (a, b))) == [], name
    assert not list(b.rglob(".partial-*"))


def drive(data: Path, out: Path, workers: int, plan: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, str(HERE / "resume_driver.py"), str(data), str(out), str(workers), *plan],
        cwd=ROOT, capture_output=True, text=True, timeout=580, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    for moment in plan:
        same_run(out / "unbroken", out / moment)


def plan(seed: int, times: int, saves: int) -> list[str]:
    draw = random.Random(seed)
    moments = [f"t{draw.uniform(0.2, 0.8):.2f}" for _ in range(times)]
    return moments + [f"s{n}" for n in draw.sample(list(SYNCS), saves)]


def test_killed_and_resumed(data, tmp_path):
    drive(data, tmp_path, 0, plan(1, times=1, saves=1))


@pytest.mark.full
@pytest.mark.parametrize("workers", [0, 2])
def test_killed_and_resumed_at_many_moments(data, tmp_path, workers):
    drive(data, tmp_path, workers, plan(7, times=4, saves=4))


def torchrun(bundle: str, words: dict, port: int) -> subprocess.Popen:
    """Train a bundle's demo in two processes with gloo; ``words`` are options of the command."""
    configs = [str(ROOT / "bundles" / bundle / "configs" / f"{n}.json") for n in ("train", "demo", "multi_gpu_train")]
    options = [text for key, value in ({"config_file": configs} | words).items() for text in (f"--{key}", str(value))]
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={port}", "-m",
         "monai.bundle", "run", "training", *options],
        cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip


def kill_after(run: subprocess.Popen, folder: Path, lines: int, seconds: float) -> None:
    """Kill all processes of ``run`` when its history has more than so many lines, or so many seconds have passed."""
    file, until = folder / "history.csv", time.monotonic() + seconds
    while time.monotonic() < until and not (file.exists() and len(file.read_text().splitlines()) > lines):
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGKILL)
    assert run.wait(60) == -signal.SIGKILL


@pytest.mark.full
def test_two_processes_killed_and_resumed(data, tmp_path):
    def start(name: str, port: int, resume: bool = False) -> subprocess.Popen:
        words = {
            "dataset_dir": data, "output_dir": tmp_path / name, "weights": tmp_path / name / "model.pt",
            "image_size": [64, 64], "batch_size": 2, "num_workers": 0, "epoch_length": 2, "max_epochs": 6,
            "network_def::network::dropout": 0.2, "flip_prob": 0.5, "resume": resume,
        }  # fmt: skip
        return torchrun("unet", words, port)

    assert start("whole", 29531).wait(300) == 0
    kill_after(start("killed", 29532), tmp_path / "killed", lines=2, seconds=240)
    assert 2 <= len(history(tmp_path / "killed")) < 6
    assert start("killed", 29533, resume=True).wait(300) == 0
    same_run(tmp_path / "whole", tmp_path / "killed")
