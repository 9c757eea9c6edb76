"""``python -m tools convert-checkpoint``: a published encoder, checked and laid out for offline use."""

from __future__ import annotations

import argparse
from pathlib import Path


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("kind", choices=("text", "image"), help="text: a BERT such as CXR-BERT; image: a ConvNeXt")
    parser.add_argument("source", help="file, folder as downloaded, or Hugging Face name in the local hub cache")
    parser.add_argument("--output", required=True, type=Path, help="folder to make: what 'pretrained' then names")
    parser.add_argument("--sha256", help="of the file, as published, 64 digits; compared first")
    parser.add_argument("--vocabulary", type=Path, help="of a text encoder (default: the vocab.txt beside the weights)")
    parser.add_argument("--half", action="store_true", help="write half precision: half the size")


def main(args: argparse.Namespace) -> None:
    """Convert, and say what was found and how to use it."""
    from common.networks.convert import convert
    from common.networks.text.bert import ARCHITECTURES

    made = convert(args.kind, args.source, args.output, sha256=args.sha256, vocabulary=args.vocabulary, half=args.half)
    folder = args.output.resolve()
    found = made.architecture
    others = ", ".join(f"{name} ({count})" for name, count in made.left_out.items()) or "nothing"
    print(f"source     {made.source}, {made.source_bytes:,} bytes")
    print(f"SHA-256    {made.source_sha256}")
    print(f"           {made.checked or 'compare it with the published one'}")
    print(f"found      {made.format}: {', '.join(f'{name} {value}' for name, value in found.items())}")
    print(f"left out   {others}")
    print(f"written    {folder}: {made.parameters:,} parameters, {made.precision}")
    if args.kind == "text":
        names = [name for name, fields in ARCHITECTURES.items() if _same(fields, found)]
        name = names[0] if names else "the fields found"
        print(f"use        --text_checkpoint {folder}, network_def::text_encoder::architecture: {name}")
    else:
        print(f"use        --image_checkpoint {folder}")


def _same(fields: dict, found: dict) -> bool:
    """Whether the fields of an architecture, the others as ``BertConfig`` has them, are those found."""
    from transformers import BertConfig

    whole = BertConfig(**fields)
    return all(getattr(whole, name) == value for name, value in found.items())
