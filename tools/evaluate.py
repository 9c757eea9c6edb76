"""``python -m tools evaluate``: a trained bundle's scores on a data set."""

from __future__ import annotations

import argparse
from pathlib import Path

from tools.settings import add_settings, settings


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--bundle", required=True, help="a bundle's folder or name, such as bundles/unet")
    parser.add_argument("--overlay", action="append", default=[], help="a configuration on top, such as demo")
    parser.add_argument("--weights", help="trained weights (default: the bundle's models/model.pt)")
    parser.add_argument(
        "--backend", choices=("torch", "torchscript", "onnx"),
        help="what computes: torch (default), or what tools export wrote beside the weights",
    )  # fmt: skip
    parser.add_argument("--data", required=True, type=Path, help="the data set's folder")
    parser.add_argument("--dataset", default="auto", help="auto, qata, mosmed, kvasir, clinicdb or csv")
    parser.add_argument("--split", default="test", help="train, validation, trainval or test (default)")
    parser.add_argument("--limit", type=int, help="at most so many images, drawn with --data-seed")
    parser.add_argument("--data-seed", type=int, default=0, help="of that draw")
    parser.add_argument("--laterality", choices=("image", "patient"), help="of a table's sentences that do not say it")
    parser.add_argument(
        "--protocol", choices=("source", "paper"), default="source",
        help="score in each file's own grid (default), or at the network's size, as the papers do",
    )  # fmt: skip
    parser.add_argument("--captions", choices=("canonical", "original"), help="sentences as one form or as written")
    parser.add_argument(
        "--control", choices=("none", "default", "shuffled", "mirrored"), default="none",
        help="other sentences than the images' own: none given, another image's, or with the sides swapped",
    )  # fmt: skip
    parser.add_argument("--blank-image", action="store_true", help="a control: the network sees the sentence alone")
    parser.add_argument(
        "--degrade", metavar="NAME",
        help="a degraded picture, before the normalisation: noise140, noise120 or noise110 (the photons of a low "
        "dose), blur3, blur5 or blur7 (motion, pixels at the network's size)",
    )  # fmt: skip
    parser.add_argument("--output", required=True, type=Path, help="folder for scores.csv, summary.json, table.txt")
    add_settings(parser)


def main(args: argparse.Namespace) -> None:
    """Run the bundle's ``evaluating`` and say where its files are."""
    from common.bundle import bundle_folder, configuration_files
    from common.runtime.evaluate import Conditions, evaluate

    folder = bundle_folder(args.bundle)
    override = settings(args.set, configuration_files(folder, ["train", *args.overlay, "evaluate"])) | {
        "dataset": args.dataset, "split": args.split, "limit": args.limit, "data_seed": args.data_seed,
        "laterality": args.laterality, "scored_grid": "source" if args.protocol == "source" else "network",
    }  # fmt: skip
    evaluate(
        folder, args.overlay, args.data, args.output, weights=args.weights, backend=args.backend, override=override,
        conditions=Conditions(args.control, args.blank_image, args.degrade, args.captions),
    )  # fmt: skip
    for name in ("scores.csv", "summary.json", "table.txt"):
        print(f"{name:13}{args.output / name}")
