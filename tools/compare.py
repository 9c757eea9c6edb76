"""``python -m tools compare``: masks of several runs side by side, as one picture."""

from __future__ import annotations

import argparse
import math
import re
from pathlib import Path

from common.errors import UserError
from tools.settings import add_settings, settings

_CLEAN = "none"
_SIDES = {"image": "the picture's", "patient": "the patient's"}
_LABELS = {"noise": "low dose, {} photons", "blur": "motion blur, {} px"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "--run", action="append", required=True, metavar="NAME=BUNDLE[:OVERLAY]=WEIGHTS",
        help="a column: its name, a bundle's name or folder with its overlays, and trained weights (repeatable)",
    )  # fmt: skip
    parser.add_argument("--data", required=True, type=Path, help="the data set's folder")
    parser.add_argument("--dataset", default="auto", help="auto, qata, mosmed, kvasir, clinicdb or csv")
    parser.add_argument("--split", default="test", help="train, validation, trainval or test (default)")
    parser.add_argument("--laterality", choices=("image", "patient"), help="of a table's sentences that do not say it")
    parser.add_argument("--limit", type=int, default=4, help="how many images, drawn with --data-seed (default: 4)")
    parser.add_argument("--data-seed", type=int, default=0, help="of that draw")
    parser.add_argument("--image", action="append", help="the file name of an image, in place of a draw (repeatable)")
    parser.add_argument(
        "--degrade", action="append", metavar="NAME",
        help="a row an image with this degradation, as in evaluate; none: the clean picture (repeatable)",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, default=Path("grid.png"), help="PNG to write (default: grid.png)")
    parser.add_argument("--device", help="such as cpu or cuda:1 (default: a GPU if there is one)")
    add_settings(parser)


def main(args: argparse.Namespace) -> None:
    """Draw the grid, print its numbers and say where it is."""
    from PIL import Image

    from common.datasets import load_dataset
    from common.files import replacing
    from common.metrics.overlap import counts, dice
    from common.report.grid import Row, grid
    from common.report.tables import markdown_table
    from common.runtime.compare import compare, pick, run_of

    if args.output.suffix.lower() != ".png":
        raise UserError(f"--output {args.output}: a PNG is written; give a name that ends with .png")
    runs = [run_of(text) for text in args.run]
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        raise UserError(f"--run: two columns have one name ({', '.join(names)}); give each its own")
    override = {run.name: settings(args.set, run.files) for run in runs}
    degrades = [None if name == _CLEAN else name for name in args.degrade or [_CLEAN]]
    data = {"laterality": args.laterality, "seed": args.data_seed}
    if args.image:
        items = pick(load_dataset(args.dataset, args.data, args.split, **data), args.image)
        drawn = "chosen by name"
    else:
        items = load_dataset(args.dataset, args.data, args.split, limit=args.limit, **data)
        drawn = f"drawn with seed {args.data_seed}"
    cases = compare(runs, items, degrades, args.device, override)

    rows, table = [], []
    for case in cases:
        scores = [100 * dice(*counts(mask, case.truth)) for mask in case.masks]
        last = case.degrade == degrades[-1]
        sides = _SIDES[case.item["laterality"]]
        rows.append(
            Row(
                case.picture if degrades != [None] else case.file_picture, case.truth, case.masks,
                ["both empty" if math.isnan(score) else f"Dice {score:.1f} %" for score in scores],
                label=_label(case.degrade) if degrades != [None] else "",
                caption=(f"{Path(case.item['image']).name}; left and right are {sides}", case.item["text_prompt"])
                if last else None,
                marker=case.marker,
            )
        )  # fmt: skip
        line = {"image": Path(case.item["image"]).name, "degrade": case.degrade or _CLEAN}
        table.append(line | {name: f"{score:.2f}" for name, score in zip(names, scores, strict=True)})
    notes = [
        f"{len(items)} image{'s' * (len(items) > 1)} of split {args.split}, {drawn}.",
        "Dice of each image in its own grid.",
        "R: the patient's right. Research use only, not a medical device.",
    ]
    if degrades != [None]:
        notes.insert(1, f"Pictures at the size at which {names[0]} sees them, which the degradation is made at.")
    with replacing(args.output) as temporary:
        Image.fromarray(grid(f"{cases[0].item['source']}: masks of {', '.join(names)}", names, rows, notes)).save(
            temporary, format="PNG"
        )
    print(markdown_table(table, ("image", "degrade", *names)))
    print(f"picture  {args.output}")


def _label(degrade: str | None) -> str:
    """What is printed on a picture."""
    if degrade is None:
        return "clean"
    kind, strength = re.fullmatch(r"([a-z]+)(\d+)", degrade).groups()
    return _LABELS[kind].format(strength)
