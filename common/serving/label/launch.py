"""Start MONAI Label's server on a folder or a DICOMweb address, with bundles of this collection."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.files import write_text
from common.serving.label.environment import check_version, prepare, prepare_children
from common.serving.label.served import Served, serve

_APP = "monaibundle"
_ENDINGS = ("*.nii.gz", "*.nii", "*.png", "*.jpg", "*.jpeg", "*.tif", "*.tiff", "*.bmp", "*.dcm", "*.dicom")
_MARK = "made by chest-refseg label-server"
_DROPOUT = 0.2  # of the networks that measure uncertainty: MONAI Label's own default


@dataclass(frozen=True)
class Settings:
    """What to serve, and where.

    Attributes:
        bundles: names or folders.
        studies: a folder of images, or the address of a DICOMweb service.
        work: folder for the app's copy, logs and cached series; made anew but for the cache.
        host: address to listen on.
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
    overlays: Sequence[str] = ()
    override: Mapping[str, Any] = field(default_factory=dict)
    modalities: Sequence[str] = ()
    scoring: Sequence[str] = ()


def start(settings: Settings) -> None:
    """Serve until stopped.

    Raises:
        UserError: MONAI Label, a bundle or the studies are not there.
    """
    check_version()
    remote = settings.studies.startswith(("http://", "https://"))
    if not remote and not Path(settings.studies).is_dir():
        raise UserError(f"{settings.studies}: there is no such folder; give one with images, or http://... of DICOMweb")
    app = make_app(settings.work)
    os.environ["TMPDIR"] = tempfile.tempdir = str(settings.work / "tmp")
    served = [serve(bundle, app, settings.overlays, settings.override) for bundle in settings.bundles]
    environment(settings, served)
    prepare_children(settings.work / "site")
    prepare()
    sys.argv = ["monailabel", *arguments(settings, app, served)]
    runpy.run_module("monailabel.main", run_name="__main__")


def make_app(work: Path) -> Path:
    """A copy of MONAI Label's own app in ``<work>/app``, in place of an earlier one; and an empty ``<work>/tmp``.

    Raises:
        UserError: the folder holds something else, or MONAI Label has no such app.
    """
    source = Path(sys.prefix) / "monailabel" / "sample-apps" / _APP
    if not (source / "main.py").is_file():
        raise UserError(f"{source}: is not there; install MONAI Label again (docs/monai-label.md)")
    app, mark = work / "app", work / "README.txt"
    if work.exists() and any(work.iterdir()) and not mark.is_file():
        raise UserError(f"{work}: holds other files; give a new folder as --work")
    write_text(mark, f"{_MARK}; it may be deleted while no server runs\n")
    for folder in (app, work / "tmp"):
        shutil.rmtree(folder, ignore_errors=True)
    (work / "tmp").mkdir()
    shutil.copytree(source, app, ignore=shutil.ignore_patterns("logs", "model", "__pycache__"))
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
    # the gate knows the addresses as they are without a prefix
    os.environ["MONAI_LABEL_API_STR"] = ""
    for key, value in wanted.items():
        os.environ.setdefault(key, value)


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
