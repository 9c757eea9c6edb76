"""``python -m tools demo``: train, evaluate and use the demonstration, on phantoms or on real images."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from common.errors import UserError

PHANTOMS = {"count": 600, "size": 128, "seed": 0, "inbox": 12}
# a subset of a real data set that trains in minutes on two cores
REAL = {"train_limit": 1500, "val_limit": 300}
# what is trained, and with which sentences it is scored
BUNDLES = {"unet": ("none",), "mmi_unet": ("none", "default", "shuffled", "mirrored")}
CONTROLS = {
    "none": "the images' sentences", "default": "no sentence given", "shuffled": "another image's sentence",
    "mirrored": "sides of the sentence swapped",
}  # fmt: skip


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder for all that is written (demo)")
    parser.add_argument("--data", type=Path, help="a QaTa-COV19-v2 folder: a subset of it instead of phantoms")
    parser.add_argument("--epochs", type=int, default=5, help="of 100 steps each (5)")


def main(args: argparse.Namespace) -> None:
    """Write or take the data, train, evaluate, segment, and say where everything is."""
    import numpy as np
    from PIL import Image

    from common.batch import Prompts
    from common.batch.job import Options
    from common.batch.results import read_rows
    from common.batch.run import Run, Settings
    from common.bundle import bundle_folder
    from common.datasets import load_dataset, phantoms
    from common.report.overlay import contact_sheet
    from common.runtime.workflow import run_bundle

    output = args.output.resolve()
    _begin(output)
    if args.data is None:
        data, subset, split = output / "phantoms", {}, "test"
        print(f"1/4 writing {PHANTOMS['count']} phantom chest radiographs to {data}", flush=True)
        phantoms.write(data, **PHANTOMS)
    else:
        data, subset, split = args.data, REAL, "validation"
        print(f"1/4 checking {data}", flush=True)
        load_dataset("auto", data, "train")

    summaries = {}
    for bundle, controls in BUNDLES.items():
        folder, run = bundle_folder(bundle), output / bundle
        where = {"dataset_dir": str(data), "weights": str(run / "model.pt"), "num_workers": 0}
        print(f"2/4 training {bundle}", flush=True)
        training = where | subset | {"output_dir": str(run), "max_epochs": args.epochs}
        run_bundle(folder, ["train", "demo"], "training", **training)
        for control in controls:
            print(f"3/4 evaluating {bundle}, {CONTROLS[control]}", flush=True)
            scored = where | {"output_dir": str(run / f"evaluation_{control}"), "split": split, "control": control}
            if args.data is not None:
                scored["limit"] = REAL["val_limit"]
            run_bundle(folder, ["train", "demo", "evaluate"], "evaluating", **scored)
            summaries[bundle, control] = json.loads((run / f"evaluation_{control}" / "summary.json").read_text())

    print("4/4 segmenting a folder of PNG and DICOM images", flush=True)
    inbox = output / "phantoms" / "inbox" if args.data is None else _real_inbox(data, output / "inbox")
    results = output / "results"
    options = Options(str(folder), results, overlays=("demo",), override=tuple(where.items()))
    Run(Settings(inbox / "images", options, Prompts(inbox / "prompts.csv"), workers=0)).go(_silent)
    rows = list(read_rows(results / "results.json"))
    failed = [row for row in rows if row["status"] != "done"]
    if failed:
        raise UserError(f"{len(failed)} of {len(rows)} images failed: {failed[0]['source']}: {failed[0]['reason']}")

    pictures = [np.asarray(Image.open(results / row["overlay"])) for row in rows]
    Image.fromarray(contact_sheet(pictures, [row["source"] for row in rows])).save(results / "overview.jpg", quality=90)
    print(f"\nDice on {summaries['unet', 'none']['images']} images not trained on, %:     micro   per image")
    for (bundle, control), summary in summaries.items():
        words = "the sentence is not used" if bundle == "unet" else CONTROLS[control]
        micro, image = (100 * summary["dice"][kind]["value"] for kind in ("micro", "per_image"))
        print(f"  {bundle + ', ' + words:46} {micro:6.1f} {image:10.1f}")
    for name, path in (
        ("scores", f"{output}/*/evaluation_*"), ("masks", results / "masks"), ("overlays", results / "overlays"),
        ("overview", results / "overview.jpg"), ("report", results / "report.html"),
    ):  # fmt: skip
        print(f"{name:10}{path}")


def _silent(total: int, done: int) -> Any:
    """No bar."""
    from tqdm import tqdm

    return tqdm(total=total, initial=done, disable=True)


MARKER = "written_by_the_demonstration"


def _begin(output: Path) -> None:
    """An empty output folder; one that holds anything but an earlier demonstration is not touched.

    Raises:
        UserError: the folder is somebody else's.
    """
    if output.exists() and any(output.iterdir()):
        if not (output / MARKER).is_file():
            raise UserError(f"{output}: holds other files; give the demonstration a folder of its own: --output DIR")
        shutil.rmtree(output)
    output.mkdir(parents=True, exist_ok=True)
    (output / MARKER).touch()


def _real_inbox(data: Path, inbox: Path, count: int = 12) -> Path:
    """A few validation images of a data set as a folder of PNG and DICOM files with a ``prompts.csv``."""
    import csv

    from common.datasets import load_dataset
    from common.images import display_array, write_radiograph

    (inbox / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    for number, item in enumerate(load_dataset("auto", data, "validation", limit=count)):
        source = Path(item["image"])
        if number % 2:
            name = source.with_suffix(".dcm").name
            pixels = (display_array(source) * 255).round().astype("uint8")
            write_radiograph(inbox / "images" / name, pixels)
        else:
            name = source.name
            shutil.copyfile(source, inbox / "images" / name)
        rows.append({"image": name, "text": item["text_prompt"], "laterality": item["laterality"]})
    with (inbox / "prompts.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ("image", "text", "laterality"), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return inbox
