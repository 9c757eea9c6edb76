"""``python -m tools train-all``: the most valuable trainings of a plan first, for so many minutes."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from common.errors import UserError
from tools.benchmark import datasets, ended_as_by_ctrl_c, say


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "--plan", nargs="+", required=True, metavar="PROTOCOL",
        help="protocols, tables or files, as tools benchmark takes; the most valuable trainings of all come first",
    )  # fmt: skip
    parser.add_argument("--budget", type=float, required=True, metavar="MINUTES", help="in all")
    parser.add_argument("--data", action="append", type=Path, required=True, help="a data set's folder (repeatable)")
    parser.add_argument("--scale", choices=("C", "G", "paper"), default="G", help="as of tools benchmark (default: G)")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0],
        help="of the trainings; the middle rows of an ablation take the first (0)",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, help="folder of cells and results (default: runs/benchmark-SCALE)")
    parser.add_argument("--retry", action="store_true", help="run trainings again that have failed")
    parser.add_argument("--workers", type=int, help="cells at once (default: one a GPU; one on a CPU)")
    parser.add_argument("--threads", type=int, help="CPU threads of each (default: the cores shared)")


def main(args: argparse.Namespace) -> int:
    """Train until the time is up and say how each cell stands; 1 if one has failed."""
    from common.benchmark.cells import merged
    from common.benchmark.grid import places, prepare
    from common.benchmark.protocols import SCALES
    from common.benchmark.table_file import named_tables
    from common.benchmark.train_all import train_all
    from common.benchmark.work import check_data

    if not 0 < args.budget < float("inf"):
        raise UserError(f"--budget {args.budget:g}: give a number of minutes above 0")
    scale = SCALES[args.scale]
    output = (args.output or Path("runs") / f"benchmark-{scale.name}").resolve()
    wanted = named_tables(args.plan)
    cells = merged(cell for table in wanted for row in table.cells(scale, args.seeds).values() for cell in row)
    data = datasets(args.data, wanted)
    check_data(output, data)
    ended_as_by_ctrl_c()
    where = places(args.workers, args.threads)
    state = train_all(prepare(output, cells), data, where, args.budget, say, args.retry)
    for folder, word in state.items():
        print(f"{word:12}{folder.name}")
    sets = [word for folder in args.data for word in ("--data", str(folder))]
    words = [*args.plan, "--scale", scale.name, "--seeds", *map(str, args.seeds), *sets, "--report"]
    print(f"results: python -m tools benchmark {shlex.join([*words, '--output', str(output)])}")
    if "left" in state.values() and not set(state.values()) & {"done", "failed", "unfinished"}:
        raise UserError(f"--budget {args.budget:g}: is too short for an epoch of any training; give more minutes")
    return int("failed" in state.values())
