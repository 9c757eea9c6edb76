"""``python -m tools parse "sentence" --laterality patient``: show what is understood of a sentence."""

from __future__ import annotations

import argparse

from common.prompts import Findings, parse
from common.prompts.zones import ZONES

_LEVELS = ("upper", "middle", "lower")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``parse``."""
    parser.add_argument("sentence", help="the sentence, in quotation marks")
    parser.add_argument(
        "--laterality",
        required=True,
        choices=("image", "patient"),
        help="whose left the sentence means: the picture's (QaTa-COV19, MosMedData+) or the patient's (clinicians)",
    )
    parser.add_argument("--grammar", default="chest", choices=("chest", "polyp"))


def main(args: argparse.Namespace) -> None:
    """Print zones and the canonical sentence, each in the picture's sides and the patient's, count and warnings."""
    found = parse(args.sentence, args.laterality, args.grammar).check()
    print(f"places:    {places(found)}")
    if found.grammar == "chest" and any(found.zones):
        print(f"           {places(found.mirrored(), 'patient')}")
    print(f"count:     {'not stated' if found.count is None else found.count}")
    if args.laterality == "patient":
        print(f"understood (patient's sides): {found.caption('patient')}")
    print(f"for the network (sides of the picture): {found.caption()}")
    for warning in found.warnings:
        print(f"warning:   {warning}")


def places(found: Findings, whose: str = "picture") -> str:
    """Such as "picture left: middle, lower; picture right: upper", or a polyp's positions, or none."""
    if not any(found.zones):
        return "none (the sentence names no lesion)"
    if found.grammar == "polyp":
        return ", ".join(name for name, bit in zip(ZONES["polyp"], found.zones, strict=True) if bit)
    sides = {"left": found.zones[:3], "right": found.zones[3:]}
    return "; ".join(
        f"{whose} {side}: {', '.join(level for level, bit in zip(_LEVELS, bits, strict=True) if bit)}"
        for side, bits in sides.items()
        if any(bits)
    )
