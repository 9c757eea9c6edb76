"""``python -m tools segment``: masks for a folder of images."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from common.errors import UserError


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--bundle", required=True, help="a bundle's folder or name, such as bundles/unet")
    parser.add_argument("--overlay", action="append", default=[], help="a configuration on top, such as demo")
    parser.add_argument("--weights", help="trained weights (default: the bundle's models/model.pt)")
    parser.add_argument("--input", required=True, type=Path, help="folder of PNG, JPEG, TIFF, NIfTI and DICOM images")
    parser.add_argument(
        "--output", required=True, type=Path, help="folder for masks, overlays, results.csv, index.html"
    )
    parser.add_argument("--prompts", type=Path, help="CSV with image,text[,laterality]")
    parser.add_argument("--text", help="the sentence of every image that the CSV does not name")
    parser.add_argument(
        "--laterality", choices=("patient", "image"),
        help="whose left the sentences mean: the patient's (clinicians) or the picture's; required with sentences",
    )  # fmt: skip
    parser.add_argument("--device", help="such as cpu or cuda:1 (default: a GPU if there is one)")


def main(args: argparse.Namespace) -> int:
    """Exit code: 0 all images segmented, 1 some failed, 2 nothing to do."""
    from tqdm import tqdm

    from common.batch import Prompts, check_output, find_images
    from common.batch.folder import count_lesion_images, segment_folder
    from common.runtime.model import load

    check_output(args.input, args.output)
    images, others = find_images(args.input, leave_out=args.output)
    if not images:
        raise UserError(f"{args.input}: holds no image (PNG, JPEG, TIFF, NIfTI, DICOM); give another --input")
    sentences = Prompts(args.prompts, args.text, args.laterality)
    prompts = sentences.assign(images, args.input)
    override = {"weights": args.weights} if args.weights else {}
    model = load(args.bundle, args.overlay, args.device, **override)
    args.output.mkdir(parents=True, exist_ok=True)
    rows = segment_folder(
        model, prompts, args.input, args.output, lambda items: tqdm(items, "segmenting", unit="image", file=sys.stderr)
    )
    failed = [row for row in rows if row["status"] == "failed"]
    print(f"{len(rows) - len(failed)} of {len(rows)} images segmented, {count_lesion_images(rows)} with a lesion")
    for row in failed[:10]:
        print(f"failed: {row['source']}: {row['reason']}")
    if len(failed) > 10:
        print(f"failed: {len(failed) - 10} more; see results.csv")
    notes = sum(row["verdict"] == "note" for row in rows)
    if notes:
        print(f"note: {notes} images have a note; see results.csv or index.html")
    for name in sentences.unused():
        print(f"note: {args.prompts} has a sentence for {name}, which is not in {args.input}")
    if others:
        print(f"note: {others} other files were left out: they are no images")
    for name in ("masks", "overlays", "results.csv", "index.html"):
        print(f"{name:12}{args.output / name}")
    if len(failed) == len(rows):
        return 2
    return 1 if failed else 0
