import csv
import hashlib
import importlib.metadata
import io
import json
import re
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
    # any build of it: a machine with a GPU takes another than one without
    assert "torch==2.13.0\n" in lock
    assert "+cpu" not in lock
    (wheel,) = (unpacked / "wheels").iterdir()
    assert lock.endswith(f"\n./wheels/{wheel.name}\n")
    assert "--hash" not in lock
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

    def build(to):
        shutil.copytree(unpacked / "wheels", to)
        return next(to.glob("*.whl"))

    monkeypatch.setattr("common.serving.package.build_wheel", build)


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
    root = Path(__file__).resolve().parents[3]
    where = run(python, "-c", WHERE, cwd=folder).split()
    assert len(where) == 2
    assert not [path for path in where if Path(path).is_relative_to(root)]
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
@pytest.mark.timeout(1800)
def test_it_works_where_nothing_of_this_repository_is(unpacked, bundle, tmp_path):
    """The other packages are those of this environment: they are many, and the lock names them."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    python = tmp_path / "env" / "bin" / "python"
    (wheel,) = (unpacked / "wheels").iterdir()
    run(python, "-m", "pip", "install", "-q", "--no-index", "--no-deps", str(wheel), cwd=tmp_path)
    (packages,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
    # paths in a .pth file are no site folders: what this environment has installed editably is not seen
    (packages / "others.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    shutil.copytree(unpacked / "mmi_unet", tmp_path / "mmi_unet")
    check(python, tmp_path, bundle)


def install_as_told(folder: Path) -> Path:
    """An empty environment and what README.txt says of it, without an index: its Python."""
    told = (folder / "README.txt").read_text()
    (line,) = (line.strip() for line in told.splitlines() if "pip install" in line)
    assert line == ("env/bin/python -m pip install --no-index --find-links wheels --require-hashes -r requirements.txt")
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    python = folder / "env" / "bin" / "python"
    run(python, *line.split()[1:], cwd=folder)
    return python


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_it_works_in_an_empty_environment_from_its_wheelhouse(bundle, tmp_path):
    """Every wheel is fetched, and installed without an index, by its hash."""
    packed = package(bundle, tmp_path / "all.zip", wheelhouse=True)
    with zipfile.ZipFile(packed.archive) as opened:
        opened.extractall(tmp_path)
    packed.archive.unlink()
    lock = (tmp_path / "requirements.txt").read_text().splitlines()
    wheels = sorted(path.name for path in (tmp_path / "wheels").iterdir())
    assert len(lock) == len(wheels) + 1 == len(packed.packages) + 2
    assert all(re.fullmatch(r"\S+ --hash=sha256:[0-9a-f]{64}", line) for line in lock[1:])
    torch_here = importlib.metadata.version("torch")
    assert packed.packages["torch"] == torch_here
    assert f"torch is {torch_here}" in (tmp_path / "README.txt").read_text()
    rows = csv.DictReader(io.StringIO((tmp_path / "licenses.csv").read_text()))
    assert [row["package"] for row in rows] == list(packed.packages)
    assert list((tmp_path / "licenses" / "monai").iterdir())
    python = install_as_told(tmp_path)
    check(python, tmp_path, bundle)


@pytest.fixture
def fetched(monkeypatch):
    """What pip would be asked to download; small wheels come instead, one that only this build of torch needs too."""
    asked = []

    def pip(*words, env=None):
        assert words[:2] == ("download", "--only-binary=:all:")
        folder = Path(words[words.index("--dest") + 1])
        asked.extend(Path(words[-1]).read_text().splitlines())
        for line in [*asked, "nvidia-nccl-cu13===2.1"]:
            name, version = line.split("===")
            name = name.replace("-", "_")
            with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
                info = f"{name}-{version}.dist-info"
                wheel.writestr(
                    f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nLicense: L\n"
                )
                wheel.writestr(f"{info}/licenses/LICENSE", name)
                wheel.writestr(f"{info}/RECORD", f"{info}/METADATA,,\n{info}/licenses/LICENSE,,\n")

    monkeypatch.setattr("common.serving.package._pip", pip)
    return asked


def test_the_wheelhouse_holds_the_build_of_torch_that_is_asked_for(bundle, tmp_path, built, fetched):
    packed = package(bundle, tmp_path / "a.zip", wheelhouse=True, torch="2.13.0")
    assert "torch===2.13.0" in fetched
    assert (packed.packages["torch"], packed.packages["nvidia-nccl-cu13"]) == ("2.13.0", "2.1")
    with zipfile.ZipFile(packed.archive) as opened:
        opened.extractall(tmp_path / "out")
    out = tmp_path / "out"
    lock = (out / "requirements.txt").read_text().splitlines()
    for line in lock[1:]:
        what, hashed = line.split(" --hash=sha256:")
        name = (
            what.removeprefix("./wheels/") if what.startswith("./") else f"{what.replace('-', '_').replace('==', '-')}-"
        )
        (wheel,) = (out / "wheels").glob(f"{name}*")
        assert hashlib.sha256(wheel.read_bytes()).hexdigest() == hashed
    assert lock[-1].startswith("./wheels/chest_refseg-")
    assert (out / "licenses" / "nvidia-nccl-cu13" / "licenses-LICENSE").read_text() == "nvidia_nccl_cu13"
    assert "nvidia-nccl-cu13,2.1,L\n" in (out / "licenses.csv").read_text()
    told = (out / "README.txt").read_text()
    assert "torch is 2.13.0.\n" in told
    assert "on the CPU even" not in told


@pytest.mark.parametrize(
    ("wheelhouse", "torch", "words"),
    [
        (False, "2.13.0", "--torch: says which build the wheelhouse holds; give --wheelhouse, too"),
        (True, "2.12.0", "--torch 2.12.0: was not tested; write a build of 2.13.0"),
        (True, "cuda", "--torch cuda: is no version; write 2.13.0"),
    ],
)
def test_builds_of_torch_that_are_refused(bundle, tmp_path, wheelhouse, torch, words):
    with pytest.raises(UserError, match=re.escape(words)):
        package(bundle, tmp_path / "a.zip", wheelhouse=wheelhouse, torch=torch)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dataset_dir", "/data/qata"),
        ("dataset_dir", "~/qata"),
        ("output_dir", "D:/masks"),
        ("output_dir", "D:\\masks"),
        ("threshold", ["/tmp"]),
        ("output_dir", f"$'{Path(__file__)}' + '/x'"),
    ],
)
def test_no_archive_names_a_path_of_this_machine(bundle, tmp_path, built, key, value):
    with pytest.raises(
        UserError, match=f"^{key}.* is a path of this machine, which no archive may name; leave it out$"
    ):
        package(bundle, tmp_path / "a.zip", override={key: value})
    assert not (tmp_path / "a.zip").exists()


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
    assert license_of(importlib.metadata.distribution("numpy"))
    assert "not stated" not in {license_of(importlib.metadata.distribution(name)) for name in ("torch", "pydicom")}
