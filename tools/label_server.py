"""``python -m tools label-server``: bundles in MONAI Label, for 3D Slicer and OHIF."""

from __future__ import annotations

import argparse
from pathlib import Path

from .settings import add_settings


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--bundles", required=True, nargs="+", help="names or folders of trained bundles")
    parser.add_argument("--studies", required=True, help="folder of images, or http(s) address of a DICOMweb service")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1: this machine only)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on (8000)")
    parser.add_argument(
        "--allow-host", nargs="+", default=[], metavar="NAME", help="more names by which it is asked, such as a proxy's"
    )
    parser.add_argument(
        "--work", type=Path, help="folder for the server's own files (~/.cache/chest-refseg/label-server-PORT)"
    )
    parser.add_argument("--overlay", nargs="+", default=[], help="configurations on top of the bundles', such as demo")
    parser.add_argument("--modality", nargs="+", default=[], help="of series of a DICOMweb service (the bundles')")
    parser.add_argument("--scoring", nargs="+", default=[], help="bundles that score uncertainty, to annotate next")
    add_settings(parser)


def main(args: argparse.Namespace) -> None:
    """Serve until stopped."""
    from common.bundle import bundle_folder, configuration_files
    from common.serving.label.launch import Settings, start
    from tools.settings import settings

    files = [
        file
        for bundle in args.bundles
        for file in configuration_files(bundle_folder(bundle), ["inference", "train", *args.overlay])
    ]
    studies = args.studies if "://" in args.studies else str(Path(args.studies).resolve())
    work = args.work or Path.home() / ".cache" / "chest-refseg" / f"label-server-{args.port}"
    start(
        Settings(
            bundles=args.bundles, studies=studies, work=work.resolve(), host=args.host, port=args.port,
            names=args.allow_host,
            overlays=args.overlay, override=settings(args.set, files), modalities=args.modality, scoring=args.scoring,
        )
    )  # fmt: skip
