"""Start MONAI Label's server on a folder or a DICOMweb address, with bundles of this collection."""

from __future__ import annotations

import fcntl
import ipaddress
import json
import os
import runpy
import shutil
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from common.errors import UserError
from common.files import write_text
from common.serving.label.environment import check_version, prepare, prepare_children
from common.serving.label.requests import ANY
from common.serving.label.scratch import use
from common.serving.label.served import Served, serve

_APP = "monaibundle"
_ENDINGS = ("*.nii.gz", "*.nii", "*.png", "*.jpg", "*.jpeg", "*.tif", "*.tiff", "*.bmp", "*.dcm", "*.dicom")
_MARK = "made by chest-refseg label-server"
HOSTS = "CHEST_REFSEG_LABEL_HOSTS"  # environment variable: what the gate takes as this server's names
_DROPOUT = 0.2  # of the networks that measure uncertainty: MONAI Label's own default


@dataclass(frozen=True)
class Settings:
    """What to serve, and where.

    Attributes:
        bundles: names or folders.
        studies: a folder of images, or the address of a DICOMweb service.
        work: folder for the app's copy, logs, records of trainings and cached series; the copy is made anew.
        host: address to listen on.
        names: more names by which it may be asked, such as a proxy's.
        port: to listen on.
        overlays: configurations on top of the bundles' own.
        override: ids of the configurations and their values.
        modalities: of series that a DICOMweb service is asked for; empty takes the bundles'.
        scoring: bundles whose uncertainty can be measured, for choosing what to annotate next.
    """

    bundles: Sequence[str]
    studies: str
    work: Path
    host: str = "127.0.0.1"
    port: int = 8000
    names: Sequence[str] = ()
    overlays: Sequence[str] = ()
    override: Mapping[str, Any] = field(default_factory=dict)
    modalities: Sequence[str] = ()
    scoring: Sequence[str] = ()


def start(settings: Settings) -> None:
    """Serve until stopped.

    Raises:
        UserError: MONAI Label, a bundle or the studies are not there, or another server has the port or the folder.
    """
    check_version()
    remote = settings.studies.startswith(("http://", "https://"))
    if not remote and not Path(settings.studies).is_dir():
        raise UserError(f"{settings.studies}: there is no such folder; give one with images, or http://... of DICOMweb")
    # held until this process ends
    lock = claim(settings.work, settings.host, settings.port)
    app = make_app(settings.work)
    use(settings.work / "tmp")
    for part in (settings.work / "series").glob("*/.part-*"):
        shutil.rmtree(part)
    served = [serve(bundle, app, settings.overlays, settings.override) for bundle in settings.bundles]
    environment(settings, served)
    prepare_children(settings.work / "site")
    prepare()
    sys.argv = ["monailabel", *arguments(settings, app, served)]
    with lock:
        runpy.run_module("monailabel.main", run_name="__main__")


def claim(work: Path, host: str, port: int) -> IO[str]:
    """Take a folder for this server alone, and see that its port is free, before anything is written or removed.

    Returns:
        What holds the folder until it is closed, or its process ends.

    Raises:
        UserError: another server has it or the port, or the folder holds something else.
    """
    if work.exists() and any(work.iterdir()) and not (work / "README.txt").is_file():
        raise UserError(f"{work}: holds other files; give a new folder as --work")
    if not 0 < port < 2**16:
        raise UserError(f"--port {port}: is no port; give a number from 1 to 65535")
    work.mkdir(parents=True, exist_ok=True)
    lock = (work / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise UserError(
            f"{work}: another label server uses it; stop that one, or give another --port or --work"
        ) from None
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        lock.close()
        raise UserError(
            f"{host}:{port}: cannot be listened on ({error.strerror}); give another --host or --port"
        ) from error
    write_text(work / "README.txt", f"{_MARK}; it may be deleted while no server runs\n")
    return lock


def make_app(work: Path) -> Path:
    """A copy of MONAI Label's own app in ``<work>/app``, in place of an earlier one, whose logs are kept.

    Raises:
        UserError: MONAI Label has no such app.
    """
    source = Path(sys.prefix) / "monailabel" / "sample-apps" / _APP
    if not (source / "main.py").is_file():
        raise UserError(f"{source}: is not there; install MONAI Label again (docs/monai-label.md)")
    app = work / "app"
    shutil.rmtree(app, ignore_errors=True)
    shutil.copytree(source, app, ignore=shutil.ignore_patterns("logs", "model", "__pycache__"))
    (work / "logs").mkdir(exist_ok=True)
    (app / "logs").symlink_to(work / "logs", target_is_directory=True)
    # MONAI Label would download a program that writes segmentations; ours does, and this one is never run
    write_text(app / "bin" / "itkimage2segimage", "#!/bin/sh\necho 'not used: see common/serving/label' >&2\nexit 1\n")
    return app


def environment(settings: Settings, served: Sequence[Served]) -> None:
    """MONAI Label's settings, as its environment variables; those that are set already stay, but for the addresses'."""
    modalities = list(settings.modalities) or sorted({name for one in served for name in one.modalities})
    wanted = {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "MONAI_ZOO_SOURCE": "ngc",
        "MONAI_LABEL_DATASTORE_FILE_EXT": json.dumps(_ENDINGS),
        "MONAI_LABEL_DICOMWEB_SEARCH_FILTER": json.dumps({"Modality": ",".join(modalities)}),
        "MONAI_LABEL_DICOMWEB_CACHE_PATH": str(settings.work / "series"),
        "MONAI_LABEL_DICOMWEB_CACHE_EXPIRY": "10",  # seconds after which new series are seen
        "MONAI_LABEL_SESSION_PATH": str(settings.work / "sessions"),
        "MONAI_LABEL_AUTO_UPDATE_SCORING": "false",
        "MONAI_LABEL_TRACKING_ENABLED": "false",
    }
    # the gate knows the addresses as they are without a prefix; a thread of its own would not know the request's folder
    os.environ |= {"MONAI_LABEL_API_STR": "", "MONAI_LABEL_INFER_CONCURRENCY": "-1"}
    os.environ[HOSTS] = json.dumps(hosts(settings.host, settings.names))
    for key, value in wanted.items():
        os.environ.setdefault(key, value)


def hosts(host: str, names: Sequence[str]) -> list[str]:
    """Names and addresses by which a server may be asked, beside those of loopback.

    Args:
        host: that it listens on; of every address of the machine, each stands for it, written as numbers.
        names: more.
    """
    try:
        everywhere = ipaddress.ip_address(host).is_unspecified
    except ValueError:
        everywhere = not host
    return [ANY if everywhere else host, *names]


def arguments(settings: Settings, app: Path, served: Sequence[Served]) -> list[str]:
    """MONAI Label's command line.

    Raises:
        UserError: uncertainty is asked of a bundle that is not served, or whose network has no dropout.
    """
    names = {one.name: one for one in served}
    conf = {"models": ",".join(names), "zoo_source": "ngc", "sam2": "false"}
    for name in settings.scoring:
        if name not in names:
            raise UserError(f"--scoring {name}: is not served; name one of {', '.join(names)}")
        config = json.loads((names[name].folder / "configs" / "inference.json").read_text(encoding="utf-8"))
        if "dropout" not in config["network_def"]:
            raise UserError(f"--scoring {name}: its network has no dropout to measure uncertainty with; leave it out")
    if settings.scoring:
        conf |= {"epistemic_model": ",".join(settings.scoring), "epistemic_dropout": str(_DROPOUT)}
    words = ["start_server", "--app", str(app), "--studies", settings.studies]
    words += ["--host", settings.host, "--port", str(settings.port)]
    words += ["--uvicorn_app", "common.serving.label.asgi:app"]
    for key, value in conf.items():
        words += ["--conf", key, value]
    return words
