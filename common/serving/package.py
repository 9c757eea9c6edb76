"""One archive that runs a bundle in an empty environment, with nothing of this repository.

Not a copy of ``common`` inside the bundle: two archives in one server would share the first one's. The archive holds

- ``<bundle>/``: the bundle, overlays merged into its configurations, its weights, and the vocabulary of an encoder that
  is not this package's own
- ``wheels/``: the wheel of this package; with a wheelhouse every other, for this system and Python
- ``requirements.txt``: the lock: the version of every package that it was packed with, and this package's wheel by its
  path, since an index may have another one of its name. With a wheelhouse every line has the hash of its wheel and
  torch is the build that the wheel is of; without, its version stands for any build, as each machine needs another
- ``licenses/`` and ``licenses.csv``: of the bundle, its data, this package and all packages of the lock
- ``README.txt``: how to install and run it
"""

from __future__ import annotations

import csv
import importlib.metadata
import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

from common import __version__
from common.bundle import bundle_folder, metadata_of, weights
from common.errors import UserError
from common.files import replacing, sha256_of, write_text
from common.networks.checkpoints import find_file
from common.prompts.bpe import MERGES
from common.prompts.tokenizer import BYTE_PAIRS, VOCABULARY
from common.runtime.backends import FACTS, read_inside
from common.runtime.model import Processing
from common.runtime.workflow import merged_config

ROOT = Path(__file__).resolve().parents[2]
_OWN = "chest-refseg"
_SOURCES = ("common", "tools", "pyproject.toml", "README.md", "LICENSE")
_NOT_NEEDED = "\n# tests\n"  # requirements.txt from this line on
_DATE = (1980, 1, 1, 0, 0, 0)  # of every file, so that the same bundle gives the same archive
_LICENSE = re.compile(r"(?i)^(licen[cs]e|copying|notice|copyright)")
_TORCH = "torch"
_PATH = re.compile(r"(?:/|~|[A-Za-z]:[\\/])")
_LITERAL = re.compile(r"'([^']*)'|\"([^\"]*)\"")
_SIDECAR = (
    "metric", "value", "epoch", "seed", "data", "commit", "versions", "device", "precision", "parameters",
    "training_data",
)  # fmt: skip


@dataclass(frozen=True)
class Packed:
    """What was packed.

    Attributes:
        archive: the file.
        bundle: its name.
        packages: of the lock, name -> version; in a wheelhouse with the build, as in ``2.13.0+cpu``.
    """

    archive: Path
    bundle: str
    packages: dict[str, str]


def package(
    bundle: str | Path,
    archive: Path,
    overlays: Sequence[str] = (),
    override: Mapping[str, Any] | None = None,
    wheelhouse: bool = False,
    torch: str = "",
) -> Packed:
    """Write the archive.

    Args:
        bundle: folder or name.
        archive: a ``.zip``.
        overlays: configurations on top of the bundle's own; they are merged in.
        override: ids of the configurations and their values, such as ``weights``.
        wheelhouse: add the wheels of all packages, which pip fetches.
        torch: the build in the wheelhouse, such as ``2.13.0+cpu``, or ``2.13.0`` for the index's own, which for Linux
            is CUDA's; "" takes the one that is installed here.

    Raises:
        UserError: no such bundle, no weights, a package of the lock is not installed, a wheel cannot be had, or a
            configuration holds a path of this machine.
    """
    if archive.suffix != ".zip":
        raise UserError(f"{archive}: an archive is a .zip; give another --output")
    build = _build_of_torch(torch) if wheelhouse else ""
    if torch and not wheelhouse:
        raise UserError("--torch: says which build the wheelhouse holds; give --wheelhouse, too, or leave it out")
    source, override = bundle_folder(bundle), dict(override or {})
    own = Processing(source, overlays, **override)
    model = Path(weights(own.weights))
    name = own.metadata["name"]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _bundle(source, folder / name, model, overlays, override)
        wheel = build_wheel(folder / "wheels")
        lines = [f"# packed with Python {_python()} on {platform.system()} {platform.machine()}"]
        found = locked(_wanted())
        if wheelhouse:
            fetched = _fetch({name: one.version for name, one in found.items()} | {_TORCH: build}, folder / "wheels")
            found = {name: distribution_in(path) for name, path in fetched.items()}
            lines += [f"{name}=={found[name].version} {_hash(path)}" for name, path in fetched.items()]
        else:
            lines += [f"{name}=={_public(one.version)}" for name, one in found.items()]
        lines.append(f"./wheels/{wheel.name}" + (f" {_hash(wheel)}" if wheelhouse else ""))
        write_text(folder / "requirements.txt", "\n".join(lines) + "\n")
        _licenses(found, source, folder)
        write_text(folder / "README.txt", _readme(name, build))
        with replacing(archive) as part:
            _zip(folder, part)
    packages = {key: one.version if wheelhouse else _public(one.version) for key, one in found.items()}
    return Packed(archive, name, packages)


def _bundle(source: Path, target: Path, model: Path, overlays: Sequence[str], override: dict[str, Any]) -> None:
    """The bundle's folder: as in the repository, with overlays merged and the weights in their place."""
    shutil.copytree(source / "configs", target / "configs")
    shutil.copytree(source / "docs", target / "docs")
    shutil.copyfile(source / "LICENSE", target / "LICENSE")
    (target / "models").mkdir()
    shutil.copyfile(model, target / "models" / "model.pt")
    values = override | {"weights": "$@bundle_root + '/models/model.pt'"}
    text = merged_config(source, ["inference", *overlays], override)["text_checkpoint"]
    if text != "compact":
        _vocabulary(text, target / "models" / "text")
        values["text_checkpoint"] = "$@bundle_root + '/models/text'"
    for config in ("inference", "train"):
        content = merged_config(source, [config, *overlays], values)
        _refuse_paths(content)
        write_text(target / "configs" / f"{config}.json", json.dumps(content, indent=4) + "\n")
    metadata = metadata_of(source, overlays)
    _refuse_paths(metadata)
    told = json.dumps(metadata, indent=4, ensure_ascii=False)
    write_text(target / "configs" / "metadata.json", told + "\n")
    for overlay in overlays:
        (target / "configs" / f"{overlay}.json").unlink()
        (target / "configs" / f"metadata_{overlay}.json").unlink(missing_ok=True)
    sidecar = model.with_suffix(".json")
    if sidecar.is_file():
        # its configuration names folders of the machine that it was trained on
        facts = json.loads(sidecar.read_text(encoding="utf-8"))
        kept = {key: facts[key] for key in _SIDECAR if key in facts}
        write_text(target / "models" / "model.json", json.dumps(kept, indent=4) + "\n")
    for exported in (model.with_suffix(".ts"), model.with_suffix(".onnx")):
        if exported.is_file() and read_inside(exported)[FACTS]["weights"]["sha256"] == sha256_of(model):
            shutil.copyfile(exported, target / "models" / f"model{exported.suffix}")


def _refuse_paths(value: Any, key: str = "") -> None:
    """Refuse configurations with a path of this machine, where the archive's reader looks in vain.

    Raises:
        UserError: with the id.
    """
    if isinstance(value, Mapping):
        for name, item in value.items():
            _refuse_paths(item, f"{key}::{name}" if key else str(name))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            _refuse_paths(item, f"{key}::{number}")
    elif isinstance(value, str):
        # an expression may put a path together: '/models/model.pt' is none
        literals = [one or other for one, other in _LITERAL.findall(value)] if value.startswith("$") else [value]
        for text in literals:
            if _PATH.match(text) and (text is value or Path(text).expanduser().exists()):
                raise UserError(f"{key}: {text} is a path of this machine, which no archive may name; leave it out")


def _vocabulary(checkpoint: str, target: Path) -> None:
    """The files by which a tokeniser is known; the weights of its encoder are in ``model.pt``."""
    path = find_file(checkpoint, (VOCABULARY, BYTE_PAIRS), "vocabulary")
    target.mkdir()
    for name in (path.name, MERGES, "config.json"):
        if path.with_name(name).is_file():
            shutil.copyfile(path.with_name(name), target / name)


def _wanted() -> list[str]:
    """Names of the packages that this one needs when it runs, by ``requirements.txt``."""
    path = ROOT / "requirements.txt"
    if not path.is_file():
        raise UserError(f"{path}: is not there; pack bundles from a checkout of the repository")
    lines = path.read_text(encoding="utf-8").split(_NOT_NEEDED)[0].splitlines()
    return [line.split("#")[0].split("==")[0].strip() for line in lines if "==" in line.split("#")[0]]


def locked(names: Iterable[str]) -> dict[str, importlib.metadata.Distribution]:
    """The installed packages and all that they need, by name.

    Raises:
        UserError: one is not installed.
    """
    found: dict[str, importlib.metadata.Distribution] = {}
    waiting = [Requirement(name) for name in names]
    while waiting:
        wanted = waiting.pop()
        name = _normal(wanted.name)
        extras = {"", *wanted.extras}
        try:
            metadata = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            raise UserError(f"{name}: is not installed, so nobody knows which version to lock; run make") from None
        if name in found and extras == {""}:
            continue
        found[name] = metadata
        for line in metadata.requires or ():
            needed = Requirement(line)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(needed)
    return dict(sorted(found.items()))


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def build_wheel(folder: Path) -> Path:
    """The wheel of this package, built from this checkout without a network; the same bytes every time.

    Raises:
        UserError: it cannot be built; with pip's last line.
    """
    with tempfile.TemporaryDirectory() as temporary:
        for name in _SOURCES:
            source, target = ROOT / name, Path(temporary) / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            elif source.is_file():
                shutil.copyfile(source, target)
            else:
                raise UserError(f"{source}: is not there; pack bundles from a checkout of the repository")
        options = ["--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder)]
        _pip("wheel", *options, temporary, env={"SOURCE_DATE_EPOCH": "315532800"})
    return next(folder.glob("chest_refseg-*.whl"))


def _build_of_torch(asked: str) -> str:
    """The version of torch that the wheelhouse holds, with its build.

    Raises:
        UserError: it is none, or not of the version that is tested.
    """
    here = importlib.metadata.version(_TORCH)
    try:
        version = Version(asked or here)
    except InvalidVersion:
        raise UserError(f"--torch {asked}: is no version; write {here}, or {_public(here)}") from None
    if version.public != _public(here):
        raise UserError(f"--torch {asked}: was not tested; write a build of {_public(here)}, such as {here}")
    return str(version)


def _fetch(versions: Mapping[str, str], folder: Path) -> dict[str, Path]:
    """The wheels of packages, and of what another build of one needs besides: by name, in order.

    Raises:
        UserError: pip does not find them.
    """
    own = set(folder.iterdir())
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as pins:
        # ===: this build and no other; 2.13.0 would also mean 2.13.0+cpu
        pins.write("".join(f"{name}==={version}\n" for name, version in versions.items()))
        pins.flush()
        _pip("download", "--only-binary=:all:", "--dest", str(folder), "-r", pins.name)
    fetched = {_normal(path.name.split("-")[0]): path for path in folder.glob("*.whl") if path not in own}
    return dict(sorted(fetched.items()))


def distribution_in(wheel: Path) -> importlib.metadata.Distribution:
    """What a wheel says of itself."""
    name, version = wheel.name.split("-")[:2]
    return importlib.metadata.PathDistribution(zipfile.Path(wheel) / f"{name}-{version}.dist-info")


def _hash(path: Path) -> str:
    return f"--hash=sha256:{sha256_of(path)}"


def _public(version: str) -> str:
    return version.split("+")[0]


def _pip(*words: str, env: Mapping[str, str] | None = None) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | dict(env or {}))
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        reason = next((line for line in lines if line.startswith("ERROR")), lines[-1] if lines else "no output")
        raise UserError(f"pip {words[0]}: failed ({reason[:200]}); check setuptools and the network")


def _licenses(packages: Mapping[str, importlib.metadata.Distribution], source: Path, folder: Path) -> None:
    """Texts of all licences, and a table of what each package says of its own."""
    own = folder / "licenses" / _OWN
    own.mkdir(parents=True)
    shutil.copyfile(ROOT / "LICENSE", own / "LICENSE")
    shutil.copyfile(source / "docs" / "data_license.txt", own / "data_license.txt")
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("package", "version", "license"))
    for name, metadata in packages.items():
        writer.writerow((name, _public(metadata.version), license_of(metadata)))
        for file in metadata.files or ():
            if _LICENSE.match(file.name) and "dist-info" in file.parts[0]:
                # in a folder, or in a wheel
                path: Any = metadata.locate_file(file)
                if path.is_file():
                    target = folder / "licenses" / name / "-".join(file.parts[1:])
                    target.parent.mkdir(exist_ok=True)
                    target.write_bytes(path.read_bytes())
    write_text(folder / "licenses.csv", table.getvalue())


def license_of(metadata: importlib.metadata.Distribution) -> str:
    """What a package says of its licence, in a line; "not stated" if nothing."""
    fields = metadata.metadata
    stated = fields.get("License-Expression") or ""
    if not stated:
        kinds = [line.split("::")[-1].strip() for line in fields.get_all("Classifier") or () if "License ::" in line]
        stated = "; ".join(kinds) or (fields.get("License") or "").strip().splitlines()[:1] or ""
    return (stated if isinstance(stated, str) else stated[0])[:100] or "not stated"


def _zip(folder: Path, path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(file for file in folder.rglob("*") if file.is_file()):
            info = zipfile.ZipInfo(file.relative_to(folder).as_posix(), _DATE)
            info.external_attr = 0o644 << 16
            # wheels and weights are compressed already, or do not shrink
            info.compress_type = zipfile.ZIP_STORED if file.suffix in (".whl", ".pt", ".ts") else zipfile.ZIP_DEFLATED
            with archive.open(info, "w", force_zip64=True) as target, file.open("rb") as content:
                shutil.copyfileobj(content, target)


def _python() -> str:
    return ".".join(platform.python_version_tuple()[:2])


def _readme(name: str, build: str) -> str:
    """How to install and use it; ``build`` of torch in the wheelhouse, "" without one."""
    cuda = f"""Pack it again for another: `tools package --bundle {name} --wheelhouse --torch BUILD`, with
{_public(importlib.metadata.version(_TORCH))} for the index's own (for Linux CUDA's), or +cpu behind it."""
    if build:
        where = "--no-index --find-links wheels --require-hashes "
        network = f"""No network is needed: every package is in wheels/, and pip compares each with its hash.
torch is {build}{", which computes on the CPU even where there is a GPU" if build.endswith("+cpu") else ""}.
{cuda}"""
    else:
        where = ""
        network = """All packages but this one are fetched by pip, in the versions of requirements.txt. Of torch that
is the index's own build, for Linux CUDA's; for a machine without a GPU put the smaller one in first, from where PyTorch
offers it."""
    return f"""{name}, chest-refseg {__version__}

Research use only: not a medical device, not for clinical decisions.

For Python {_python()} on {platform.system()} {platform.machine()}, in this folder:

    python{_python()} -m venv env
    env/bin/python -m pip install {where}-r requirements.txt
    env/bin/chest-refseg segment --bundle {name} --input IMAGES --output MASKS \\
        --text "Opacity in the left lower lobe." --laterality patient

{network}

or in Python:

    import common
    result = common.load("{name}")("chest.dcm", "Opacity in the left lower lobe.", laterality="patient")
    result.save("mask.png")

The model card is {name}/docs/README.md; licences are in licenses/ and licenses.csv.
"""
