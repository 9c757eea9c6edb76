"""``python -m tools train-text-encoder``: train the compact text encoder from generated sentences."""

from __future__ import annotations

import argparse
from pathlib import Path


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--output", type=Path, required=True, help="folder for vocab.txt, config.json, model.safetensors"
    )
    parser.add_argument("--seed", type=int, default=0, help="another seed, other sentences and weights (default: 0)")
    parser.add_argument("--steps", type=int, default=1000, help="steps of the optimiser (default: 1000)")
    parser.add_argument("--batch", type=int, default=64, help="sentences a step (default: 64)")


def main(args: argparse.Namespace) -> int:
    """Train, print figures, write."""
    from common.prompts.train_encoder import train

    train(args.output, seed=args.seed, steps=args.steps, batch=args.batch)
    print(f'text encoder: {args.output}; use it as "pretrained" of BertText and in Tokenizer.of')
    return 0
