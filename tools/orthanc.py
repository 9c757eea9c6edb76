"""``python -m tools orthanc``: new images of an Orthanc are segmented and the segmentations stored beside them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

PASSWORD = "CHEST_REFSEG_ORTHANC_PASSWORD"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--url", default="http://127.0.0.1:8042", help="of Orthanc (http://127.0.0.1:8042)")
    parser.add_argument("--user", default="", help=f"of Orthanc; the password is read from {PASSWORD}")
    parser.add_argument("--folder", required=True, type=Path, help="for the state and the images being worked on")
    parser.add_argument("--config", required=True, type=Path, help="options of `segment` as a YAML file")
    parser.add_argument("--modality", nargs="+", default=["CR", "DX"], help="of series that are segmented (CR DX)")
    parser.add_argument("--seg", choices=("binary", "fractional"), default="binary", help="kind of segmentation")
    parser.add_argument("--secondary-capture", action="store_true", help="store overlays too")
    parser.add_argument("--from-start", action="store_true", help="also what Orthanc holds already")
    parser.add_argument("--once", action="store_true", help="end when there is nothing new")
    parser.add_argument("--seconds", type=float, default=5, help="between two questions for news (5)")


def main(args: argparse.Namespace) -> None:
    """Watch until stopped."""
    from common.errors import UserError
    from common.serving.orthanc import Orthanc, Watch, watch

    if not args.config.is_file():
        raise UserError(f"{args.config}: no such file; write segment's options into it, see docs/hospital.md")
    options = ["--config", str(args.config.resolve()), "--seg", args.seg]
    if args.secondary_capture:
        options.append("--secondary-capture")

    def command(images: Path, output: Path) -> Sequence[str]:
        return [sys.executable, "-m", "tools", "segment", "--input", str(images), "--output", str(output), *options]

    orthanc = Orthanc(args.url, args.user, os.environ.get(PASSWORD, ""))
    modalities = frozenset(modality.upper() for modality in args.modality)
    task = Watch(orthanc, args.folder.resolve(), command, modalities, lambda line: print(line, flush=True))
    watch(task, from_start=args.from_start, once=args.once, seconds=args.seconds)
