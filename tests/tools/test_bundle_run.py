"""The commands of README and model card as a user types them: from three folders, under torchrun, and with faults."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from common.datasets import load_dataset, phantoms

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = ROOT / "bundles" / "unet"
SMALL = ["--image_size", "[64,64]", "--batch_size", "4", "--num_workers", "0"]
RUN = ["-m", "monai.bundle", "run"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    phantoms.write(root, count=20, size=64, seed=3, inbox=6)
    return root


def command(words, cwd, ok=True):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=300, env=environment)
    assert (done.returncode == 0) is ok, done.stdout[-3000:] + done.stderr[-3000:]
    return done


def configs(*names, folder=BUNDLE / "configs"):
    return str([str(Path(folder) / f"{name}.json") for name in names])


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """Trained from the repository's root, on a fraction that is less than one batch."""
    out = tmp_path_factory.mktemp("trained")
    command(
        [sys.executable, *RUN, "training", "--config_file", configs("train", "demo", folder="bundles/unet/configs"),
         "--dataset_dir", str(data), "--output_dir", str(out), "--max_epochs", "1", "--epoch_length", "2",
         "--fraction", "0.15", *SMALL],
        ROOT,
    )  # fmt: skip
    assert {"last.pt", "model.pt", "model.json", "history.csv"} <= {p.name for p in out.iterdir()}
    return out


def test_fraction_is_one_key(data, trained):
    rows = len(load_dataset("auto", data, "train"))
    assert json.loads((trained / "model.json").read_text())["data"]["items"] == round(0.15 * rows) < 4


def test_evaluating_from_the_bundle(data, trained, tmp_path):
    done = command(
        [sys.executable, *RUN, "evaluating", "--config_file", configs("train", "demo", "evaluate", folder="configs"),
         "--dataset_dir", str(data), "--weights", str(trained / "model.pt"), "--output_dir", str(tmp_path), *SMALL],
        BUNDLE,
    )  # fmt: skip
    assert "Dice micro" in done.stdout
    assert json.loads((tmp_path / "summary.json").read_text())["split"] == "test"
    assert not list(BUNDLE.glob("*.csv"))


def test_inferring_from_elsewhere(data, trained, tmp_path):
    command(
        [sys.executable, *RUN, "inferring", "--config_file", configs("inference", "demo"), "--dataset_dir",
         str(data / "inbox" / "images"), "--weights", str(trained / "model.pt"), "--output_dir", str(tmp_path / "out"),
         "--image_size", "[64,64]"],
        tmp_path,
    )  # fmt: skip
    assert len(list((tmp_path / "out").glob("*_mask.png"))) == 6


def test_torchrun(data, tmp_path):
    """Two processes with gloo; the weights are those of one network."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29517"]
    command(
        [*torchrun, *RUN, "training", "--config_file", configs("train", "demo", "multi_gpu_train"), "--dataset_dir",
         str(data), "--output_dir", str(tmp_path), "--max_epochs", "2", "--epoch_length", "1", *SMALL,
         "--batch_size", "2"],
        ROOT,
    )  # fmt: skip
    weights = torch.load(tmp_path / "model.pt", weights_only=True)
    assert not any(key.startswith("module.") for key in weights)
    assert len((tmp_path / "history.csv").read_text().splitlines()) == 3


@pytest.mark.full
def test_tracking_and_resume(data, tmp_path):
    pytest.importorskip("mlflow", reason="pip install -r requirements-tracking.txt")
    words = [sys.executable, *RUN, "training", "--config_file", configs("train", "demo"), "--dataset_dir", str(data),
             "--output_dir", str(tmp_path), "--epoch_length", "1", "--tracking", "mlflow", *SMALL]  # fmt: skip
    command([*words, "--max_epochs", "1"], ROOT)
    assert (tmp_path / "mlruns.db").exists()
    done = command([*words, "--max_epochs", "1", "--resume", "true"], ROOT)
    assert "continuing after epoch 1" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "error: --dataset_dir is not given: the folder of the data set, as downloaded"),
        (["--dataset_dir", "nowhere"], "nowhere"),
    ],
)
def test_a_fault_is_one_line(arguments, words, tmp_path):
    done = command(
        [sys.executable, *RUN, "training", "--config_file", configs("train", "demo"), *arguments,
         "--output_dir", str(tmp_path / "out")],
        tmp_path, ok=False,
    )  # fmt: skip
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert words in errors[0]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_no_weights_is_one_line(data, tmp_path):
    done = command(
        [sys.executable, "-m", "tools", "segment", "--bundle", "unet", "--weights", str(tmp_path / "none.pt"),
         "--input", str(data / "inbox" / "images"), "--output", str(tmp_path / "out")],
        ROOT, ok=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "none.pt: there are no trained weights; train them" in done.stderr
    assert "Traceback" not in done.stderr


def test_segment_a_folder_with_a_bad_file(data, trained, tmp_path):
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    for path in (data / "inbox" / "images").iterdir():
        (inbox / path.name).write_bytes(path.read_bytes())
    (inbox / "cut short.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    done = command(
        [sys.executable, "-m", "tools", "segment", "--bundle", str(BUNDLE), "--overlay", "demo", "--weights",
         str(trained / "model.pt"), "--input", str(inbox), "--output", str(tmp_path / "out"), "--prompts",
         str(data / "inbox" / "prompts.csv")],
        ROOT, ok=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "6 of 7 files segmented" in done.stdout
    assert "1 failed: cannot be decoded, damaged or truncated" in done.stdout
    assert len(list((tmp_path / "out" / "masks").iterdir())) == 6
    assert len(list((tmp_path / "out" / "overlays").iterdir())) == 6
    assert len((tmp_path / "out" / "results.csv").read_text().splitlines()) == 8
    assert "cut short.png" in (tmp_path / "out" / "results.json").read_text()
    assert (tmp_path / "out" / "report.html").is_file()
