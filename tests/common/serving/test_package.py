import csv
import hashlib
import io
import json
import shutil
import site
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import common
from common.errors import UserError
from common.runtime.export.export import export
from common.serving.package import license_of, locked, package
from tests.common.batch.conftest import bright_bundle
from tests.common.batch.runs import PICTURE
from tools.__main__ import main

SENTENCE = "Opacity in the left lower lobe."


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A bundle with weights, a sidecar that names a folder of this machine, and an export of other weights."""
    folder = bright_bundle(tmp_path_factory.mktemp("bundles") / "bright", takes_text=True)
    root = Path(__file__).resolve().parents[3]
    for name in ("docs", "LICENSE"):
        (shutil.copytree if (root / "bundles/mmi_unet" / name).is_dir() else shutil.copyfile)(
            root / "bundles/mmi_unet" / name, folder / name
        )
    facts = {"metric": "val_dice", "value": 0.5, "commit": "abc", "config": {"dataset_dir": "D:/secret/qata"}}
    (folder / "models" / "model.json").write_text(json.dumps(facts))
    return folder


@pytest.fixture(scope="module")
def packed(bundle, tmp_path_factory):
    return package(bundle, tmp_path_factory.mktemp("packed") / "mmi_unet.zip")


@pytest.fixture(scope="module")
def unpacked(packed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(packed.archive) as archive:
        archive.extractall(folder)
    return folder


def test_what_is_in_it(packed, unpacked, bundle):
    assert sorted(path.name for path in unpacked.iterdir()) == [
        "README.txt", "licenses", "licenses.csv", "mmi_unet", "requirements.txt", "wheels",
    ]  # fmt: skip
    own = unpacked / "mmi_unet"
    assert (own / "models" / "model.pt").read_bytes() == (bundle / "models" / "model.pt").read_bytes()
    assert json.loads((own / "models" / "model.json").read_text()) == {
        "metric": "val_dice", "value": 0.5, "commit": "abc",
    }  # fmt: skip
    assert not list(own.rglob("common"))
    lock = (unpacked / "requirements.txt").read_text()
    assert "torch==2.13.0\n" in lock
    assert "+cpu" not in lock
    for name in ("pytest", "ruff", "hypothesis", "chest-refseg"):
        assert f"\n{name}==" not in lock
    assert packed.packages["tokenizers"] == "0.23.3"
    rows = list(csv.DictReader(io.StringIO((unpacked / "licenses.csv").read_text())))
    assert [row["package"] for row in rows] == list(packed.packages)
    assert next(row for row in rows if row["package"] == "monai")["license"].startswith("Apache")
    assert (unpacked / "licenses" / "monai" / "LICENSE").is_file() or list((unpacked / "licenses" / "monai").iterdir())
    assert (unpacked / "licenses" / "chest-refseg" / "data_license.txt").is_file()
    secret = b"D:/secret"
    assert not [path for path in unpacked.rglob("*") if path.is_file() and secret in path.read_bytes()]


def test_the_command_gives_the_same_archive_and_says_what_is_in_it(packed, bundle, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["package", "--bundle", str(bundle)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("mmi_unet-0.1.0.zip: ")
    assert "mmi_unet, this package's wheel, a lock of " in said
    again = (tmp_path / "mmi_unet-0.1.0.zip").read_bytes()
    assert hashlib.sha256(again).digest() == hashlib.sha256(packed.archive.read_bytes()).digest()


@pytest.fixture
def built(unpacked, monkeypatch):
    """The wheel that was built before: building takes a while."""
    monkeypatch.setattr("common.serving.package.build_wheel", lambda to: shutil.copytree(unpacked / "wheels", to))


def run(python: Path, *words: str, cwd: Path) -> str:
    done = subprocess.run([python, *words], cwd=cwd, capture_output=True, text=True, env={"HOME": str(cwd), "PATH": ""})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


WHERE = "import common, tools, sys; print(common.__file__); print(tools.__file__)"
USE = f"import common; common.load('mmi_unet', device='cpu')('in/a.png', '{SENTENCE}', 'patient').save('b.png')"


def check(python: Path, folder: Path, bundle: Path) -> None:
    """The unpacked bundle works in an environment, and nothing of this repository is used."""
    (folder / "in").mkdir()
    Image.fromarray(PICTURE).save(folder / "in" / "a.png")
    root = str(Path(__file__).resolve().parents[3])
    where = run(python, "-c", WHERE, cwd=folder).split()
    assert len(where) == 2
    assert not [path for path in where if path.startswith(root)]
    wanted = common.load(bundle, device="cpu")(folder / "in" / "a.png", SENTENCE, "patient").mask
    assert 0 < wanted.mean() < 1
    words = ["segment", "--bundle", "mmi_unet", "--input", "in", "--output", "out", "--text", SENTENCE]
    run(python, "-m", "tools", *words, "--laterality", "patient", "--workers", "0", "--device", "cpu", cwd=folder)
    run(python, "-c", USE, cwd=folder)
    inferring = ["-m", "monai.bundle", "run", "inferring", "--config_file", "configs/inference.json"]
    options = ["--dataset_dir", str(folder / "in"), "--output_dir", str(folder / "eval")]
    run(python, *inferring, *options, cwd=folder / "mmi_unet")
    default = common.load(bundle, device="cpu")(folder / "in" / "a.png").mask
    assert np.array_equal(np.asarray(Image.open(folder / "out" / "masks" / "a.png")) > 0, wanted)
    assert np.array_equal(np.asarray(Image.open(folder / "b.png")) > 0, wanted)
    (mask,) = (folder / "eval").glob("*.png")
    assert np.array_equal(np.asarray(Image.open(mask)) > 0, default)


@pytest.mark.full
def test_it_works_where_nothing_of_this_repository_is(unpacked, bundle, tmp_path):
    """The other packages are those of this environment: they are many, and the lock names them."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    python = tmp_path / "env" / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--find-links", str(unpacked / "wheels"),
        "chest-refseg", cwd=tmp_path)  # fmt: skip
    (packages,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
    # paths in a .pth file are no site folders: what this environment has installed editably is not seen
    (packages / "others.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    shutil.copytree(unpacked / "mmi_unet", tmp_path / "mmi_unet")
    check(python, tmp_path, bundle)


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_it_works_in_an_empty_environment_from_its_wheelhouse(bundle, tmp_path):
    """Every wheel is fetched, and installed without an index."""
    archive = package(bundle, tmp_path / "all.zip", wheelhouse=True).archive
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(tmp_path)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    python = tmp_path / "env" / "bin" / "python"
    words = ["install", "-q", "--no-index", "--find-links", "wheels", "-r", "requirements.txt", "chest-refseg"]
    run(python, "-m", "pip", *words, cwd=tmp_path)
    check(python, tmp_path, bundle)


def test_overlays_are_merged_and_a_foreign_vocabulary_goes_along(bundle, tmp_path, built):
    folder = shutil.copytree(bundle, tmp_path / "bundle")
    encoder = tmp_path / "cxr-bert"
    encoder.mkdir()
    compact = Path(common.__file__).parent / "networks" / "text" / "compact"
    for name in ("vocab.txt", "config.json"):
        shutil.copyfile(compact / name, encoder / name)
    overlay = {"threshold": 0.4, "text_checkpoint": str(encoder), "weights": "$@bundle_root + '/runs/x/model.pt'"}
    (folder / "configs" / "mine.json").write_text(json.dumps(overlay))
    (folder / "configs" / "metadata_mine.json").write_text(json.dumps({"task": "of the overlay"}))
    (folder / "runs" / "x").mkdir(parents=True)
    shutil.move(folder / "models" / "model.pt", folder / "runs" / "x" / "model.pt")
    with zipfile.ZipFile(package(folder, tmp_path / "a.zip", ["mine"]).archive) as archive:
        archive.extractall(tmp_path / "out")
    own = tmp_path / "out" / "mmi_unet"
    config = json.loads((own / "configs" / "inference.json").read_text())
    assert config["threshold"] == 0.4
    assert not list((own / "configs").glob("*mine.json"))
    assert json.loads((own / "configs" / "metadata.json").read_text())["task"] == "of the overlay"
    assert (own / "models" / "text" / "vocab.txt").read_bytes() == (encoder / "vocab.txt").read_bytes()
    shutil.rmtree(encoder)
    Image.fromarray(PICTURE).save(tmp_path / "a.png")
    assert common.load(own, device="cpu")(tmp_path / "a.png", SENTENCE, "patient").mask.any()


@pytest.mark.full
def test_exports_go_along_if_they_are_of_these_weights(tmp_path, built):
    from tests.common.serving.label.conftest import small_bundle

    folder = small_bundle(tmp_path / "unet", "unet")
    for name in ("docs", "LICENSE"):
        source = Path(common.__file__).parents[1] / "bundles" / "unet" / name
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, folder / name)
    export(common.load(folder, device="cpu"))
    names = zipfile.ZipFile(package(folder, tmp_path / "a.zip").archive).namelist()
    assert {"unet/models/model.pt", "unet/models/model.ts", "unet/models/model.onnx"} <= set(names)
    state = torch.load(folder / "models" / "model.pt", weights_only=True)
    torch.save({key: value + 1 for key, value in state.items()}, folder / "models" / "model.pt")
    names = zipfile.ZipFile(package(folder, tmp_path / "b.zip").archive).namelist()
    assert "unet/models/model.ts" not in names


def test_refusals(bundle, tmp_path, capsys, monkeypatch):
    with pytest.raises(UserError, match=r"an archive is a \.zip"):
        package(bundle, tmp_path / "a.tar")
    with pytest.raises(UserError, match=r"no-such-package: is not installed"):
        locked(["no-such-package"])
    assert main(["package", "--bundle", str(bundle), "--weights", str(tmp_path / "none.pt")]) == 2
    assert "there are no trained weights" in capsys.readouterr().err
    monkeypatch.setattr("common.serving.package.ROOT", tmp_path)
    with pytest.raises(UserError, match="pack bundles from a checkout of the repository"):
        package(bundle, tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()


def test_licences_are_what_packages_say():
    import importlib.metadata

    assert license_of(importlib.metadata.distribution("numpy"))
    assert "not stated" not in {license_of(importlib.metadata.distribution(name)) for name in ("torch", "pydicom")}
