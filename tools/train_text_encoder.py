"""``python -m tools train-text-encoder``: train the compact text encoder from generated sentences."""

from __future__ import annotations

import argparse
from pathlib import Path


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--output", type=Path, help="folder for vocabulary and weights (default: the package's own)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other sentences and weights (default: 0)")
    parser.add_argument("--steps", type=int, default=5000, help="steps of the optimiser (default: 5000)")
    parser.add_argument("--batch", type=int, default=32, help="sentences a step (default: 32)")


def main(args: argparse.Namespace) -> int:
    """Train, print figures, write."""
    from common.networks.checkpoints import SHIPPED
    from common.prompts.train_encoder import train

    output = args.output or SHIPPED["compact"]
    train(output, seed=args.seed, steps=args.steps, batch=args.batch)
    print(f"text encoder: {output}")
    return 0
