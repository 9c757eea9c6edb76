"""What every bundle's configuration imports first: where the bundle is, its weights, and errors of one line.

Importing this module installs the excepthook that prints a :class:`common.errors.UserError` as one line, also under
``python -m monai.bundle run``, where MONAI alone prints dozens.
"""

from __future__ import annotations

import copy
import inspect
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ._version import __version__
from .errors import UserError, install_excepthook

BUNDLES = Path(__file__).resolve().parent.parent / "bundles"


def quiet() -> None:
    """Silence messages that tell a user nothing they could act on."""
    # every LoadImage says that NVIDIA's image codec is missing, with or without a GPU, whatever reader is named
    logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*nvImageCodec.*")
    warnings.filterwarnings("ignore", message=".*config_file.*_target_.*", category=UserWarning)
    # "Engine run resuming from iteration 0" at every validation, and each error twice before it is raised
    logging.getLogger("ignite.engine.engine").setLevel(logging.CRITICAL)
    # torch 2.x: GradScaler's old name (MONAI's trainer), jit deprecations
    warnings.filterwarnings("ignore", category=FutureWarning, module="monai.*")


install_excepthook()
quiet()


def metadata_of(folder: Path, overlays: Sequence[str] = ()) -> dict[str, Any]:
    """What a bundle says of itself, ``configs/metadata.json``; empty where there is none.

    Args:
        folder: the bundle.
        overlays: names of its configurations. One that changes what the bundle is for has a file of its own,
            ``metadata_<overlay>.json``, with the ids that differ (``"a::b"`` inside of others).

    Raises:
        UserError: a file is no JSON.
    """
    found: dict[str, Any] = {}
    for name in ("metadata", *(f"metadata_{overlay}" for overlay in overlays)):
        path = folder / "configs" / f"{name}.json"
        if not path.is_file():
            continue
        try:
            items = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{path}: is no JSON ({error}); restore the file") from error
        for item, value in items.items():
            *above, last = item.split("::")
            place = found
            for key in above:
                place = place[key]
            place[last] = value
    return found


def root(name: str) -> str:
    """The folder of the bundle ``name``, wherever the program was started from.

    The working directory if it is that bundle, else ``bundles/<name>`` beside the package ``common``.

    Raises:
        UserError: where neither is there, or the installed packages are not those the bundle requires.
    """
    for folder in (Path.cwd(), BUNDLES / name):
        metadata = metadata_of(folder)
        if metadata.get("name") == name:
            check_versions(metadata, folder)
            return str(folder.resolve())
    raise UserError(
        f"bundle '{name}' is neither the working directory nor {BUNDLES / name}; name its folder: --bundle_root DIR"
    )


def check_versions(metadata: dict[str, Any], folder: Path) -> None:
    """Refuse a bundle whose ``required_packages_version`` names another version of ``chest-refseg``.

    Other packages that differ are a warning: the pinned set is the tested one, not the only one that works.
    """
    for package, wanted in metadata.get("required_packages_version", {}).items():
        if package == "chest-refseg":
            if wanted != __version__:
                raise UserError(
                    f"{folder / 'configs' / 'metadata.json'}: the bundle needs chest-refseg {wanted}, "
                    f"installed is {__version__}; install that version or take the bundle of this one"
                )
            continue
        try:
            found = version(package)
        except PackageNotFoundError:
            logging.getLogger(__name__).warning("%s %s is not installed; %s needs it", package, wanted, folder.name)
            continue
        if found.split("+")[0] != wanted:
            logging.getLogger(__name__).warning("%s is %s; %s was tested with %s", package, found, folder.name, wanted)


def weights(path: str | Path) -> str:
    """``path``, if there is a file.

    Raises:
        UserError: if not, with the command that makes it.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(
            f"{path}: there are no trained weights; train them (python -m monai.bundle run training --config_file "
            f"CONFIG --dataset_dir DIR) or copy a model.pt to that place"
        )
    return str(path)


def required(value: Any, key: str, meaning: str) -> Any:
    """``value``, if the user gave one.

    Every configuration asks for its data so, and so it is here that options are refused which would not do what they
    say: words that were meant as values (``--loss::suppress_only false`` would be a string, and true), and None, which
    ``monai.bundle run`` leaves out (``--max_norm None`` would keep what the configuration has).

    Raises:
        UserError: for None or an empty string, naming the key and what it is for; for such an option.
    """
    if value in (None, ""):
        raise UserError(f"--{key} is not given: {meaning}")
    config = running_config()
    for name, word in _words(config):
        raise UserError(f"--{name} {word}: is a word, not a value; write {_VALUES[word.lower()]}")
    for name in _left_out(config):
        raise UserError(f"--{name} None: would be left out, and what is configured stay; write --{name} '$None'")
    return value


_VALUES = {"false": "False", "null": "'$None'"}
_RUNS = ("run", "run_workflow", "create_workflow")


def _left_out(config: dict[str, Any]) -> Iterator[str]:
    """Ids of options that ``monai.bundle run`` was given as None where the configuration has another value.

    MONAI drops them (``update_kwargs``) before it makes a parser, so they are looked up among the callers.
    """
    from monai.bundle import ConfigParser

    parser, frame = ConfigParser(config), inspect.currentframe()
    while frame is not None:
        if frame.f_globals.get("__name__") == "monai.bundle.scripts" and frame.f_code.co_name in _RUNS:
            given = frame.f_locals.get("override", frame.f_locals.get("kwargs", {}))
            yield from (name for name, value in given.items() if value is None and parser.get(name) is not None)
        frame = frame.f_back


def _words(item: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """(id, word) of all strings in a configuration that were meant as False or None; metadata apart."""
    if isinstance(item, str) and item.lower() in _VALUES:
        yield name, item
    elif isinstance(item, dict):
        for key, value in item.items():
            if name or key != "_meta_":
                yield from _words(value, f"{name}::{key}" if name else str(key))
    elif isinstance(item, list):
        for number, value in enumerate(item):
            yield from _words(value, f"{name}::{number}")


def running_config() -> dict[str, Any]:
    """The merged configuration, overrides included, that the calling expression is part of.

    MONAI hands no component the configuration it comes from, so the parser is looked up among the callers. A program
    that builds its components by hand gets an empty dict.
    """
    from monai.bundle import ConfigParser

    frame = inspect.currentframe()
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, ConfigParser):
            return copy.deepcopy(caller.get())
        frame = frame.f_back
    return {}


def is_code(value: Any) -> bool:
    """Whether MONAI's parser would evaluate, look up or read from a file something in a value of a configuration."""
    if isinstance(value, str):
        return value.lstrip().startswith(("$", "%", "@"))
    if isinstance(value, Mapping):
        return any(map(is_code, value)) or any(map(is_code, value.values()))
    return isinstance(value, Sequence) and any(map(is_code, value))


def configuration_files(folder: Path, names: Sequence[str]) -> list[str]:
    """The paths of a bundle's configuration files by their names, such as ``"train"`` and ``"demo"``.

    Raises:
        UserError: one is not there.
    """
    files = [folder / "configs" / f"{name}.json" for name in names]
    for file in files:
        if not file.is_file():
            known = ", ".join(sorted(path.stem for path in file.parent.glob("*.json")))
            raise UserError(f"{file}: is not there; the bundle has {known or 'no configurations'}")
    return [str(file) for file in files]


def bundle_folder(bundle: str | Path) -> Path:
    """The folder of a bundle given by its folder or its name.

    Raises:
        UserError: there is no such bundle.
    """
    for folder in (Path(bundle), BUNDLES / str(bundle)):
        if (folder / "configs").is_dir():
            return folder.resolve()
    known = ", ".join(sorted(path.parent.name for path in BUNDLES.glob("*/configs"))) or "none"
    raise UserError(f"{bundle}: is no bundle; give a bundle's folder or one of: {known}")
