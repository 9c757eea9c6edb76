"""``python -m tools explain``: what a bundle makes of one image and sentence, as one picture."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from common.errors import UserError
from tools.settings import add_settings, settings

if TYPE_CHECKING:
    from common.runtime.explain import Explanation
    from common.runtime.model import Model

_WHOSE = {"patient": "the patient's sides", "image": "sides of the picture"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--bundle", required=True, help="a bundle's folder or name, such as bundles/mmi_unet")
    parser.add_argument("--overlay", action="append", default=[], help="a configuration on top, such as demo")
    parser.add_argument("--weights", help="trained weights (default: the bundle's models/model.pt)")
    parser.add_argument("--image", required=True, type=Path, help="PNG, JPEG, TIFF, NIfTI or DICOM")
    parser.add_argument("--text", help="the sentence (default: the one that asserts disease everywhere)")
    parser.add_argument("--laterality", choices=tuple(_WHOSE), help="whose left the sentence means; required with it")
    parser.add_argument("--mask", type=Path, help="ground truth, in the image's stored grid")
    parser.add_argument("--output", type=Path, default=Path("panel.png"), help="PNG to write (default: panel.png)")
    parser.add_argument("--device", help="such as cpu or cuda:1 (default: a GPU if there is one)")
    add_settings(parser)


def main(args: argparse.Namespace) -> None:
    """Draw the picture and say where it is."""
    from PIL import Image

    from common.bundle import bundle_folder, configuration_files
    from common.files import replacing
    from common.images.sides import sides_unknown
    from common.metrics.overlap import counts, dice
    from common.report.panel import Maps, panel
    from common.runtime.explain import explain
    from common.runtime.model import load

    if args.output.suffix.lower() != ".png":
        raise UserError(f"--output {args.output}: a PNG is written; give a name that ends with .png")
    override = settings(args.set, configuration_files(bundle_folder(args.bundle), ["inference", *args.overlay]))
    if args.weights:
        override["weights"] = args.weights
    text = (args.text or "").strip()
    model = load(args.bundle, args.overlay, args.device, **override)
    found = explain(model, args.image, text, args.laterality, args.mask)
    lines = _lines(text, args.laterality, model, found)
    if found.truth is not None:
        lines.append(("Dice", f"{100 * dice(*counts(found.result.displayed, found.truth)):.1f} %"))
    maps, notes = [], []
    if len(found.attention):
        rows, columns = found.cells
        heading = (
            f"where each word that the network got is looked at: attention of {rows} x {columns} cells, 1x is even"
        )
        maps.append(Maps(heading, found.words, found.attention, least_top=2, unit="x"))
        notes.append("Where a word is looked at is no proof that it decided.")
    for insight in found.insights:
        captions = [("", name, "") for name in insight.names]
        maps.append(Maps(insight.heading, captions, insight.values, outline=insight.outline))
    if found.left_out:
        notes.append(f"No room for the maps of: {', '.join(dict.fromkeys(found.left_out))}.")
    unknown = sides_unknown(found.result.meta)
    if model.grammar == "chest":
        notes.append(f"{unknown[0].upper()}{unknown[1:]}." if unknown else "R: the patient's right.")
    notes.append("Research use only, not a medical device.")
    drawn = panel(
        found.picture, found.probability, found.result.displayed, found.truth,
        title=f"{model.folder.name}: {args.image.name}", lines=lines, maps=maps, notes=[" ".join(notes)],
        marker="R" if model.grammar == "chest" and not unknown else "",
    )  # fmt: skip
    with replacing(args.output) as temporary:
        Image.fromarray(drawn).save(temporary, format="PNG")
    for label, text in lines:
        print(f"{label:13}{text}")
    print(f"{'picture':13}{args.output}")


def _lines(text: str, laterality: str | None, model: Model, found: Explanation) -> list[tuple[str, str]]:
    """The sentence as given, as understood, and as the network got it."""
    from common.images.sides import sides_unknown
    from tools.parse import places

    lines = [("sentence", f"{text} ({_WHOSE[laterality]})" if text else "none given")]
    findings = found.result.findings
    if findings is not None:
        patient = laterality == "patient" or not sides_unknown(found.result.meta)
        patient = patient and model.grammar == "chest"
        lines.append(("understood", places(findings.mirrored(), "patient") if patient else places(findings)))
        lines += [("warning", warning) for warning in findings.warnings]
    if not found.takes_text:
        lines.append(("network got", "no sentence: it takes the image alone, and no attention can be shown"))
    else:
        default = "the default, which asserts disease everywhere: " if found.result.prompt_used == "default" else ""
        lines.append(("network got", f"{default}{found.result.sentence} (sides of the picture)"))
        if not len(found.attention):
            lines.append(("attention", "none to show: this network has no word_attention"))
    return lines
