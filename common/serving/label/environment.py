"""What must be in place before MONAI Label 0.8.5 can be imported beside current packages; nothing on the disk changes.

- ``pydicom._storage_sopclass_uids``, which ``pydicom-seg`` imports, is gone from pydicom 3: a module of that name holds
  the UIDs of ``pydicom.uid``.
- ``torchvision`` (two functions that draw grids, for another app) is not installed: a stand-in is there while the one
  module that asks for it is imported. ``transformers`` looks for torchvision too, and remembers what it found, so that
  its classes are imported before.
- ``dicom_to_nifti`` and ``nifti_to_dicom_seg`` are replaced by ours, where they are used.
- Each app gets, once it is built, the fields that clients may set, and an empty ``displayable_configs``: what a client
  sends for them never gets into a configuration, which MONAI would execute.

Training, batch inference and scoring run in processes that MONAI Label starts. :func:`prepare_children` sees to it that
these begin with :func:`prepare`, too.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import json
import logging
import os
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.errors import UserError, user_error
from common.files import write_text
from common.serving.label.requests import hide_sentences

VERSION = "0.8.5"
_INSTALL = "pip install -r requirements-label.txt, then --no-deps -r requirements-label-nodeps.txt"
_CHILD = "monailabel.interfaces.utils.app"


def check_version() -> None:
    """Refuse another MONAI Label than the one this was written for, or none.

    Raises:
        UserError: with the command that installs it.
    """
    try:
        found = importlib.metadata.version("monailabel")
    except importlib.metadata.PackageNotFoundError:
        raise UserError(f"MONAI Label is not installed here; {_INSTALL} (see docs/monai-label.md)") from None
    if found != VERSION:
        raise UserError(f"MONAI Label is {found}, this works with {VERSION}; {_INSTALL}")
    if sys.version_info[:2] != (3, 11):
        raise UserError(f"Python is {sys.version_info[0]}.{sys.version_info[1]}; MONAI Label {VERSION} needs 3.11")


def prepare() -> None:
    """Make MONAI Label importable in this process, with what is replaced by name.

    Raises:
        UserError: as :func:`check_version`.
    """
    check_version()
    hide_sentences()
    # before the stand-in for torchvision: afterwards transformers cannot import its classes
    for module in ("common.networks.text.bert", "common.networks.image.convnext"):
        importlib.import_module(module)
    _old_pydicom()
    with _stand_in("torchvision", ("make_grid", "save_image")):
        importlib.import_module("monailabel.transform.post")
    from monailabel.datastore import dicom
    from monailabel.datastore.utils import convert
    from monailabel.interfaces.app import MONAILabelApp

    from common.serving.label.convert import dicom_to_nifti, nifti_to_dicom_seg

    for module in (convert, dicom):
        module.dicom_to_nifti = dicom_to_nifti
    # what an annotator stores was looked at by a person
    dicom.nifti_to_dicom_seg = functools.partial(nifti_to_dicom_seg, by_person=True)
    convert.nifti_to_dicom_seg = nifti_to_dicom_seg
    MONAILabelApp.__init__ = _then(MONAILabelApp.__init__, adopt)


def adopt(app: Any) -> None:
    """Give the models of an app, once it is built, their fields; and take what clients send out of configurations."""
    for task in getattr(app, "_infers", {}).values():
        task._config.update(_fields_of(task))
        _serve_own_weights(task)
    for method in getattr(app, "_scoring_methods", {}).values():
        _serve_own_weights(method.infer_task)
        method.run_scoring = functools.partial(_unless_refused, method.run_scoring)
    for task in getattr(app, "_trainers", {}).values():
        task.config = functools.partial(_training_options, task.config)
    if hasattr(app, "infer"):
        app.infer = functools.partial(_of_an_image, app.infer)
    if getattr(app, "_batch_infer", None):
        app._batch_infer = functools.partial(infer_all, app._batch_infer)


def _of_an_image(infer: Callable[..., Any], request: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
    """MONAI Label's inference; of no image, it would look into the folder it was started in."""
    if not isinstance(request.get("image"), str) or not request["image"]:
        raise UserError("image: no such image; write an id that /datastore lists")
    return infer(request, *args, **kwargs)


def _serve_own_weights(task: Any) -> None:
    """Let a task compute with its ``model.pt`` and nothing else, neither other files of the folder nor no weights."""
    task.displayable_configs = {}
    task._config["model_filename"] = ["model.pt"]
    task._get_network = functools.partial(_with_weights, task._get_network, Path(task.bundle_path))


def _with_weights(network: Callable[..., Any], bundle: Path, *args: Any, **kwargs: Any) -> Any:
    """MONAI Label's network of a task, which would be untrained where the file is not there."""
    if not (bundle / "models" / "model.pt").is_file():
        raise UserError(f"{bundle.name}/models/model.pt: is not there; put the weights back, or train the bundle")
    return network(*args, **kwargs)


def infer_all(batch: Callable[..., dict[str, Any]], request: dict[str, Any], datastore: Any, infer: Callable[..., Any]):
    """MONAI Label's batch inference: on a machine without a GPU, too, and an image that is refused stops no other.

    Args:
        batch: MONAI Label's.
        request: its parameters; ``multi_gpu`` is true if it is not there.
        datastore: of the images.
        infer: called with the request of one image and the datastore.

    Returns:
        For each image its answer; of one that is refused, ``{"params": {"refused": line}}``.
    """
    import torch

    def one(request: dict[str, Any], datastore: Any) -> dict[str, Any]:
        try:
            return infer(request, datastore)
        except Exception as error:
            if (fault := user_error(error)) is None:
                raise
            logging.getLogger(__name__).warning("an image was refused: %s", fault)
            return {"params": {"refused": str(fault)}}

    gpus = bool(request.get("multi_gpu", True)) and torch.cuda.device_count() > 0
    return batch({**request, "multi_gpu": gpus}, datastore, one)


def _unless_refused(score: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    try:
        return score(*args, **kwargs)
    except Exception as error:
        if (fault := user_error(error)) is None:
            raise
        logging.getLogger(__name__).warning("an image was left out: %s", fault)
        return None


def prepare_children(folder: Path) -> None:
    """Let processes that MONAI Label starts from this one begin with :func:`prepare`.

    Python imports ``sitecustomize`` from the first folder of its path that has one; it is written to ``folder``.
    """
    write_text(folder / "sitecustomize.py", f"from {__name__} import child\n\nchild()\n")
    paths = [str(folder), str(Path(__file__).resolve().parents[3])]
    paths += [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)


def child() -> None:
    """Begin a process: only those that MONAI Label starts for its tasks are prepared."""
    if _CHILD in sys.orig_argv:
        from common.bundle import install_excepthook

        install_excepthook()
        prepare()


def _fields_of(task: Any) -> dict[str, Any]:
    from common.serving.label.served import FACTS

    path = Path(task.bundle_path) / "configs" / FACTS
    return json.loads(path.read_text(encoding="utf-8"))["fields"]


def _training_options(options: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The options of a training that are served."""
    known = options()
    return {key: known[key] for key in ("device", "max_epochs", "val_split", "multi_gpu", "gpus")}


def _then(function: Callable[..., None], more: Callable[[Any], None]) -> Callable[..., None]:
    @functools.wraps(function)
    def both(self: Any, *args: Any, **kwargs: Any) -> None:
        function(self, *args, **kwargs)
        more(self)

    return both


def _old_pydicom() -> None:
    import pydicom.uid

    module = types.ModuleType("pydicom._storage_sopclass_uids")
    uids = {name: uid for name, uid in vars(pydicom.uid).items() if name.endswith("Storage")}
    vars(module).update(uids)
    sys.modules.setdefault(module.__name__, module)


@contextmanager
def _stand_in(package: str, functions: tuple[str, ...]) -> Iterator[None]:
    """Modules ``package`` and ``package.utils`` whose functions raise, where the package is not installed."""
    if importlib.util.find_spec(package) is not None:
        yield
        return

    def missing(*_: Any, **__: Any) -> None:
        raise NotImplementedError(f"{package} is not installed")

    names = (package, f"{package}.utils")
    for name in names:
        sys.modules[name] = types.ModuleType(name)
    for function in functions:
        setattr(sys.modules[names[1]], function, missing)
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]
