"""What must be in place before MONAI Label 0.8.5 can be imported beside current packages; nothing on the disk changes.

- ``pydicom._storage_sopclass_uids``, which ``pydicom-seg`` imports, is gone from pydicom 3: a module of that name holds
  the UIDs of ``pydicom.uid``.
- ``torchvision`` (two functions that draw grids, for another app) is not installed: a stand-in is there while the one
  module that asks for it is imported. ``transformers`` looks for torchvision too, and remembers what it found, so that
  its classes are imported before.
- ``dicom_to_nifti`` and ``nifti_to_dicom_seg`` are replaced by ours, where they are used.
- What MONAI Label answers with a 500 though the request is at fault (a series or image that is not there, a device that
  is not) is said in one line; a series is fetched whole or not at all; labels in a folder of studies are read when they
  are submitted, not when they are first learnt from.
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
import re
import shutil
import sys
import tempfile
import threading
import time
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.errors import UserError, user_error
from common.files import write_text
from common.serving.label.requests import TAKEN, NotThere, Unavailable, hide_sentences
from common.serving.label.scratch import use_of_task

VERSION = "0.8.5"
_INSTALL = "pip install -r requirements-label.txt, then --no-deps -r requirements-label-nodeps.txt"
_CHILD = "monailabel.interfaces.utils.app"
_UID = re.compile(r"[0-9.]{1,64}")
_NO_IMAGE = "image: no such image; write an id that /datastore lists"


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
    from monailabel.datastore.local import LocalDatastore
    from monailabel.datastore.utils import convert
    from monailabel.interfaces.app import MONAILabelApp
    from monailabel.tasks.infer.bundle import BundleInferTask
    from monailabel.tasks.train.bundle import BundleTrainTask

    from common.serving.label.convert import dicom_to_nifti, nifti_to_dicom_seg, submitted

    for module in (convert, dicom):
        module.dicom_to_nifti = dicom_to_nifti
    # what an annotator stores was looked at by a person
    dicom.nifti_to_dicom_seg = functools.partial(nifti_to_dicom_seg, by_person=True)
    convert.nifti_to_dicom_seg = nifti_to_dicom_seg
    dicom.binary_to_image = functools.partial(_of_its_size, dicom.binary_to_image)
    dicom.dicom_web_download_series = functools.partial(fetch_series, dicom.dicom_web_download_series)
    for name in ("get_image_uri", "save_label"):
        setattr(dicom.DICOMWebDatastore, name, _of_a_series(getattr(dicom.DICOMWebDatastore, name)))
    BundleInferTask.__call__ = _by_slices(BundleInferTask.__call__)
    BundleTrainTask._partition_datalist = _of_slices(BundleTrainTask._partition_datalist)
    LocalDatastore.save_label = submitted(LocalDatastore.save_label)
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
    """MONAI Label's inference, of what it is meant to look at; of no image, it would look where it was started."""
    if not isinstance(request.get("image"), str) or not request["image"]:
        raise NotThere(_NO_IMAGE)
    check_device(request.get("device"))
    return infer({key: request[key] for key in TAKEN if key in request}, *args, **kwargs)


def _by_slices(infer: Callable[..., Any]) -> Callable[..., Any]:
    """MONAI Label's inference of an image, of a CT series slice by slice."""
    from common.serving.label.series import infer_slices
    from common.serving.label.steps import series_of

    @functools.wraps(infer)
    def call(task: Any, request: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        image = request.get("image")
        slices = series_of(image) if isinstance(image, str) and image else []
        return infer_slices(infer, task, request, slices) if slices else infer(task, request, *args, **kwargs)

    return call


def _of_slices(partition: Callable[..., Any]) -> Callable[..., Any]:
    """MONAI Label's partition of the labels; afterwards, so that no series is on both sides, each slice is an item."""
    from common.serving.label.series import items_of_slices
    from common.serving.label.steps import series_of

    @functools.wraps(partition)
    def call(*args: Any, **kwargs: Any) -> Any:
        return tuple(items and items_of_slices(items, series_of) for items in partition(*args, **kwargs))

    return call


def check_device(device: Any) -> None:
    """Refuse a device that this machine has not; none leaves it to the model.

    Raises:
        UserError: with those that it has.
    """
    if not device:
        return
    import torch
    from monailabel.utils.others.generic import device_map, name_to_device

    name = name_to_device(device)
    try:
        torch.zeros(1, device=name)
    except Exception as error:  # torch raises RuntimeError, AssertionError, NotImplementedError
        raise UserError(f"device: is not there; write one of {', '.join(device_map())}") from error


def fetch_series(fetch: Callable[..., None], study: Any, series: str, folder: str, *args: Any, **kwargs: Any) -> None:
    """MONAI Label's download of a series, whole or not at all.

    Raises:
        NotThere: the DICOMweb service has none of that name.
        Unavailable: it does not answer.
    """
    import requests

    # beside the place it belongs to, on the same disk
    Path(folder).parent.mkdir(parents=True, exist_ok=True)
    part = tempfile.mkdtemp(prefix=".part-", dir=Path(folder).parent)
    try:
        fetch(study, series, part, *args, **kwargs)
        if not any(Path(part).iterdir()):
            raise NotThere(_NO_IMAGE)
        shutil.rmtree(folder, ignore_errors=True)
        Path(part).replace(folder)
    except (IndexError, KeyError) as error:
        raise NotThere(_NO_IMAGE) from error
    except requests.HTTPError as error:
        if error.response is not None and error.response.status_code in (400, 404):
            raise NotThere(_NO_IMAGE) from error
        raise Unavailable(f"studies: the DICOMweb service answers {_status(error)}; see its log") from error
    except requests.RequestException as error:
        raise Unavailable("studies: the DICOMweb service does not answer; see whether it runs") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _of_its_size(convert: Callable[..., str], image: str, label: str, *args: Any, **kwargs: Any) -> str:
    """MONAI Label's reading of OHIF's labels: bytes without a header, one a pixel."""
    try:
        return convert(image, label, *args, **kwargs)
    except ValueError as error:
        raise UserError(
            f"label: has {Path(label).stat().st_size} bytes, another number than its image has pixels; send it again"
        ) from error


def _status(error: Any) -> str:
    return str(getattr(error.response, "status_code", "nothing"))


def _of_a_series(function: Callable[..., Any]) -> Callable[..., Any]:
    """A method of MONAI Label's DICOMweb datastore, which is asked for a series: its UID is also a folder's name."""

    @functools.wraps(function)
    def asked(self: Any, image_id: str, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(image_id, str) or not _UID.fullmatch(image_id) or ".." in image_id:
            raise NotThere(_NO_IMAGE)
        return function(self, image_id, *args, **kwargs)

    return asked


def _serve_own_weights(task: Any) -> None:
    """Let a task compute with its ``model.pt`` and nothing else, neither other files of the folder nor no weights."""
    task.displayable_configs = {}
    task._config["model_filename"] = ["model.pt"]
    task._get_network = functools.partial(_with_weights, task._get_network, Path(task.bundle_path))


def _with_weights(network: Callable[..., Any], bundle: Path, *args: Any, **kwargs: Any) -> Any:
    """MONAI Label's network of a task, which would be untrained where the file is not there."""
    if not (bundle / "models" / "model.pt").is_file():
        raise Unavailable(_gone(bundle))
    return network(*args, **kwargs)


def _gone(bundle: Path) -> str:
    return f"{bundle.name}/models/model.pt: is not there; put the weights back, or train the bundle"


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
            if (fault := user_error(error)) is None or isinstance(fault, Unavailable):
                raise
            logging.getLogger(__name__).warning("an image was refused: %s", fault)
            return {"params": {"refused": str(fault)}}

    gpus = bool(request.get("multi_gpu", True)) and torch.cuda.device_count() > 0
    return batch({**request, "multi_gpu": gpus}, datastore, one)


def _unless_refused(score: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    try:
        return score(*args, **kwargs)
    except Exception as error:
        if (fault := user_error(error)) is None or isinstance(fault, Unavailable):
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
    """Begin a process: only those that MONAI Label starts for its tasks are prepared, and end with their server."""
    if _CHILD not in sys.orig_argv:
        return
    from common.bundle import install_excepthook

    install_excepthook()
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    use_of_task()
    # MONAI Label would leave out what has no weights, and fail on it later
    for bundle in sorted((Path(os.environ["MONAI_LABEL_APP_DIR"]) / "model").iterdir()):
        if not (bundle / "models" / "model.pt").is_file():
            # Python goes on after an exception in this place
            print(f"error: {_gone(bundle)}", file=sys.stderr, flush=True)
            os._exit(1)
    prepare()


def _end_with(parent: int) -> None:
    """End this process and those it started once its server is gone: nobody could see or stop it."""
    import psutil

    while os.getppid() == parent:
        time.sleep(1)
    for process in psutil.Process().children(recursive=True):
        process.kill()
    os._exit(1)


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
