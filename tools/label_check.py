"""``python -m tools label-check``: label-server with a real Orthanc on this machine, on phantoms."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from .settings import add_settings


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--bundle", required=True, help="name or folder of a trained bundle for radiographs")
    parser.add_argument("--overlay", nargs="+", default=[], help="configurations on top of the bundle's, such as demo")
    add_settings(parser)


def main(args: argparse.Namespace) -> None:
    """Print each step; the folder with logs is kept where one fails."""
    import shutil

    import common
    from common.bundle import bundle_folder, configuration_files
    from common.serving.label.check import check, programs
    from common.serving.label.environment import check_version
    from tools.settings import settings

    check_version()
    programs()
    files = configuration_files(bundle_folder(args.bundle), ["inference", "train", *args.overlay])
    model = common.load(args.bundle, args.overlay, "cpu", **settings(args.set, files))
    options = [word for pair in args.set for word in ("--set", pair)]
    if args.overlay:
        options += ["--overlay", *args.overlay]
    folder = Path(tempfile.mkdtemp(prefix="label-check-"))
    print(f"logs in {folder}, which is deleted if all goes well", flush=True)
    check(folder / "check", args.bundle, options, lambda line: print(line, flush=True), model)
    shutil.rmtree(folder)
