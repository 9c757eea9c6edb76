"""``python -m tools benchmark``: train and score what a protocol asks for, and write its tables."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import UserError

if TYPE_CHECKING:
    from common.benchmark.protocols import Table


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "protocol", nargs="*",
        help="main, controls, fractions, degradations, ablations, a table of one of them, such as main-qata "
        "(--dry-run lists them), or a JSON file with a table of your own (docs/benchmark.md)",
    )  # fmt: skip
    parser.add_argument("--data", action="append", type=Path, default=[], help="a data set's folder (repeatable)")
    parser.add_argument(
        "--scale", choices=("C", "G", "paper"), default="C",
        help="C: small networks for a CPU (default); G: minutes of a GPU; paper: the papers' encoders and lengths",
    )  # fmt: skip
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0],
        help="of the trainings; the middle rows of an ablation take the first (0)",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, help="folder of cells and results (default: runs/benchmark-SCALE)")
    parser.add_argument("--workers", type=int, help="cells at once (default: one a GPU; one on a CPU)")
    parser.add_argument("--threads", type=int, help="CPU threads of each (default: the cores shared)")
    parser.add_argument("--engine", choices=("local", "ray"), default="local", help="this machine, or a Ray cluster")
    parser.add_argument("--retry", action="store_true", help="run cells again that have failed")
    parser.add_argument("--report", action="store_true", help="run nothing: write the results of what is there")
    parser.add_argument(
        "--no-costs", action="store_true", help="do not measure parameters, operations, time and memory"
    )
    parser.add_argument(
        "--fill", action="store_true", help="put whole tables into README and model cards, between their markers"
    )
    parser.add_argument("--dry-run", action="store_true", help="list tables and cells, and how they stand")
    parser.add_argument(
        "--adopt", action="append", default=[], metavar="CELL=RUN",
        help="take a training made by hand, its --output_dir RUN, for a cell that asks for the very same (repeatable)",
    )  # fmt: skip
    # what the processes of cells are started with
    parser.add_argument("--cell", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--deadline", type=float, help=argparse.SUPPRESS)


def main(args: argparse.Namespace) -> int:
    """Run what is missing and write the results; 1 if a cell has failed."""
    if args.cell:
        return _cell(args.cell, args.data[0], args.deadline)
    from common.benchmark.cells import merged
    from common.benchmark.grid import places, prepare, run_grid, run_on_ray
    from common.benchmark.protocols import PROTOCOLS, SCALES, tables
    from common.benchmark.table_file import named_tables
    from common.benchmark.work import adopt, check_data, describe
    from common.benchmark.write import write

    scale = SCALES[args.scale]
    output = (args.output or Path("runs") / f"benchmark-{scale.name}").resolve()
    if len(set(args.seeds)) < len(args.seeds):
        raise UserError("--seeds: one seed is given twice; give each once")
    if not args.protocol and not args.dry_run:
        raise UserError(f"say what to run: {', '.join(PROTOCOLS)}, or a table (--dry-run lists them)")
    wanted = named_tables(args.protocol or PROTOCOLS)
    own = {table.key for table in wanted} - {table.key for table in tables(list(PROTOCOLS))}
    if args.fill and own:
        raise UserError(f"--fill: is for the project's own tables, and {', '.join(sorted(own))} is none; leave it out")
    cells = merged(c for table in wanted for row in table.cells(scale, args.seeds).values() for c in row)
    data = datasets(args.data, wanted)
    if args.dry_run:
        for table in wanted:
            print(f"{table.key}: {table.title}")
            for row, made in table.cells(scale, args.seeds).items():
                for cell in made:
                    print(f"  {row:44} {cell.name:52} {describe(output / 'cells' / cell.name, cell, data)}")
        print(f"{len(cells)} trainings in all")
        return 0
    check_data(output, data)
    folders = prepare(output, cells)
    for text in args.adopt:
        name, _, run = text.partition("=")
        folder = output / "cells" / name
        if folder not in folders or not run:
            raise UserError(f"--adopt {text}: write CELL=RUN, a cell of these tables (--dry-run lists them)")
        if folders[folder].dataset not in data:
            raise UserError(f"--adopt {text}: give its data set's folder as --data")
        adopt(folder, Path(run), data[folders[folder].dataset])
        print(f"{name}: takes {run}")

    state: dict[Path, str] = {}
    if not args.report:
        if not data:
            raise UserError("--data is not given: name the folder of a data set, as downloaded")
        ended_as_by_ctrl_c()
        where = places(args.workers, args.threads)
        if args.engine == "ray":
            if args.workers:
                raise UserError("--workers: is for this machine; with --engine ray the cluster says how many there are")
            state = run_on_ray(folders, data, int(where[0].variables["OMP_NUM_THREADS"]), say, args.retry)
        else:
            state = run_grid(folders, data, where, say, args.retry)
    for path in write(output, wanted, scale, args.seeds, data, costs=not args.no_costs, documents=args.fill, said=say):
        print(path)
    for folder, word in state.items():
        if word == "elsewhere":
            print(f"{folder.name}: another command has it; its numbers are missing here until that one is done")
    return int(bool({"failed", "elsewhere", "unfinished"} & set(state.values())))


def ended_as_by_ctrl_c() -> None:
    """A signal to end, or a terminal that closes, ends the processes of cells too, as Ctrl-C does."""

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)


def datasets(folders: list[Path], wanted: Sequence[Table]) -> dict[str, Path]:
    """Data sets by their names.

    Raises:
        UserError: a folder holds none, or one that no table is made for, or two hold the same.
    """
    from common.benchmark.protocols import DATASETS
    from common.datasets.load import find_dataset

    found: dict[str, Path] = {}
    for folder in folders:
        name, place = find_dataset("auto", folder)
        if name == "csv" and all(table.dataset != name for table in wanted):
            known = ", ".join(label for key, label in DATASETS.items() if key != name)
            raise UserError(
                f"{folder}: is no data set of these tables; known are {known}; a table of your own takes others"
            )
        if name in found:
            raise UserError(f"{folder}: holds {DATASETS[name]}, as {found[name]} does; give one of them")
        found[name] = place.resolve()
    needed = {table.dataset for table in wanted}
    if found and not needed & found.keys():
        have, want = (", ".join(DATASETS[name] for name in names) for names in (found, sorted(needed)))
        raise UserError(f"--data: these tables are of {want}, and none of that is given, but {have}")
    return found


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


def _cell(folder: Path, data: Path, deadline: float | None) -> int:
    """One cell, in a process of its own."""
    from common.benchmark.grid import ELSEWHERE
    from common.benchmark.work import claimed, run_cell

    with claimed(folder) as mine:
        if not mine:
            return ELSEWHERE
        run_cell(folder, data, deadline)
    return 0
