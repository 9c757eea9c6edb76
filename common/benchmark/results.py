"""What the cells of a benchmark say, table by table."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from common.benchmark import published
from common.benchmark.cells import DEGRADED, OWN, Cell
from common.benchmark.grid import CELLS
from common.benchmark.protocols import Row, Scale, Table
from common.benchmark.statistics import NO_DIFFERENCE, STATISTICS, compare, family
from common.benchmark.work import TRAINED, missing, read_json
from common.errors import UserError
from common.metrics import read_scores, summarise

METRICS = {
    "dice_micro": ("dice", "micro"), "dice_per_image": ("dice", "per_image"), "iou_micro": ("iou", "micro"),
    "iou_per_image": ("iou", "per_image"), "hd95_px": ("hd95", "px"), "assd_px": ("assd", "px"),
    "sensitivity": ("sensitivity",), "specificity": ("specificity",),
    "sides": ("consistency", "laterality", "prediction"), "zones": ("consistency", "zone_bits", "prediction"),
    "count": ("consistency", "count", "prediction"),
}  # fmt: skip


@dataclass
class Run:
    """A cell and what it wrote."""

    cell: Cell
    folder: Path

    @cached_property
    def status(self) -> dict[str, Any]:
        """``state`` (done, failed, unfinished or waiting), ``error`` of a failed one."""
        return read_json(self.folder / "status.json") or {"state": "waiting"}

    @cached_property
    def sidecar(self) -> dict[str, Any]:
        """Of the weights: commit, versions, device, data, configuration."""
        return read_json(self.folder / "train" / "model.json")

    @cached_property
    def trained(self) -> dict[str, Any]:
        """Steps, epochs, seconds."""
        return read_json(self.folder / "train" / TRAINED)

    def scores(self, evaluation: str) -> Path | None:
        """The folder of an evaluation, if it is there whole and of these weights and rows."""
        asked = replace(self.cell, evaluations=(evaluation,))
        return None if missing(self.folder, asked) else self.folder / "scores" / evaluation


@dataclass
class Line:
    """A row of a table: its runs, one a seed."""

    row: Row
    runs: list[Run]
    _rows: dict[str, dict[int, list[dict[str, Any]]]] = field(default_factory=dict)
    _pooled: dict[str, dict[str, Any]] = field(default_factory=dict)

    def by_seed(self, evaluation: str = OWN) -> dict[int, list[dict[str, Any]]]:
        """Rows of ``scores.csv`` of each seed that has them."""
        if evaluation not in self._rows:
            folders = {run.cell.seed: folder for run in self.runs if (folder := run.scores(evaluation))}
            self._rows[evaluation] = {seed: read_scores(folder / "scores.csv") for seed, folder in folders.items()}
        return self._rows[evaluation]

    def rows(self, evaluation: str = OWN) -> list[list[dict[str, Any]]]:
        """As :meth:`by_seed`, one list a seed."""
        return list(self.by_seed(evaluation).values())

    def of_same_seeds(self, evaluations: Sequence[str]) -> Line:
        """The line of those seeds that have all of these evaluations that any of its seeds has.

        A mean over two seeds does not stand beside one of a single seed.
        """
        asked = [name for name in evaluations if any(run.scores(name) for run in self.runs)]
        return Line(self.row, [run for run in self.runs if all(run.scores(name) for name in asked)])

    def span(self, evaluation: str, kind: str) -> float | None:
        """The largest difference between two of its seeds; None if it has not two.

        Args:
            evaluation: a name.
            kind: of Dice, one of :data:`common.benchmark.statistics.STATISTICS`.
        """
        values = [summary["dice"][kind]["value"] for summary in self.each(evaluation)]
        return max(values) - min(values) if len(values) > 1 and None not in values else None

    def each(self, evaluation: str = OWN) -> list[dict[str, Any]]:
        """``summary.json`` of each seed."""
        return [read_json(f / "summary.json") for run in self.runs if (f := run.scores(evaluation))]

    def summary(self, evaluation: str = OWN) -> dict[str, Any] | None:
        """All seeds together: pixels and images of all of them, resampled by subject; None if there is none."""
        seeds = self.rows(evaluation)
        if not seeds:
            return None
        if len(seeds) == 1:
            return self.each(evaluation)[0]
        if evaluation not in self._pooled:  # a bootstrap, for which tables and plots ask several times
            self._pooled[evaluation] = summarise([row for rows in seeds for row in rows])
        return self._pooled[evaluation]

    @property
    def seeds(self) -> list[int]:
        """Those that are scored."""
        return [run.cell.seed for run in self.runs if run.scores(OWN)]

    def paper(self, evaluation: str = OWN) -> published.Published | None:
        """The paper's row of the same data, share of masks and degradation."""
        if self.row.published is None or evaluation not in (OWN, *DEGRADED):
            return None
        paper, name = self.row.published
        wanted = {f"fraction={self.row.fraction:g}"} if self.row.fraction != 1 else set()
        wanted |= set() if evaluation == OWN else {f"degrade={evaluation}"}
        for row in published.rows(paper=paper, dataset=self.runs[0].cell.dataset):
            named = name in (row.method, row.method.split(":")[0])
            if named and set(row.condition.split()) - {"ablation"} == wanted:
                return row
        return None


@dataclass
class Filled:
    """A table with what its cells said; ``at_hand``: whether its data set is."""

    table: Table
    lines: list[Line]
    at_hand: bool = True

    @property
    def scored(self) -> list[Line]:
        """Lines with numbers."""
        return [line for line in self.lines if line.rows()]

    @property
    def evaluations(self) -> list[str]:
        """Those that its cells are asked for; at scale ``paper`` not the table's own, see :class:`Table`."""
        return list(dict.fromkeys(name for line in self.lines for run in line.runs for name in run.cell.evaluations))

    @cached_property
    def tests(self) -> dict[str, dict[str, Any]]:
        """Each line against the reference on the images as they are; without a scored reference there are none."""
        return self._tested((OWN,))[OWN]

    @cached_property
    def degraded_tests(self) -> dict[str, dict[str, dict[str, Any]]]:
        """As :attr:`tests`, under each degradation, all corrected together: evaluation -> line -> test."""
        return self._tested([name for name in self.evaluations if name in DEGRADED])

    def _tested(self, evaluations: Sequence[str]) -> dict[str, dict[str, dict[str, Any]]]:
        """Each line against the reference under each evaluation, corrected by Holm over all of these.

        Both of the seeds that both have (``of_seeds``). The largest difference between seeds of either of the two
        (``seeds_differ``, None where neither has two) is the least that counts.
        """
        lines = {line.row.name: line for line in self.scored}
        found, spans = {}, {}
        for evaluation in evaluations:
            for name, line in lines.items():
                reference = line.row.reference or self.table.reference
                if name == reference or not line.rows(evaluation):
                    continue
                other = lines.get(reference)
                seeds = [seed for seed in line.by_seed(evaluation) if other and seed in other.by_seed(evaluation)]
                if other is None or not seeds:
                    self.untested[name] = f"{reference} has no numbers" + (" of the same seed" if other else "")
                    continue
                both = [[one.by_seed(evaluation)[seed] for seed in seeds] for one in (line, other)]
                try:
                    test = compare(*both)
                except UserError as error:
                    self.untested[name] = str(error)
                    continue
                found[evaluation, name] = test | {"reference": other.row.name, "of_seeds": seeds}
                spans[evaluation, name] = {
                    kind: [span for one in (line, other) if (span := one.span(evaluation, kind)) is not None]
                    for kind in STATISTICS
                }
        sorted_by: dict[str, dict[str, dict[str, Any]]] = {evaluation: {} for evaluation in evaluations}
        for (evaluation, name), test in family(found).items():
            sorted_by[evaluation][name] = test
            for kind in STATISTICS:
                if not test[kind]:
                    continue
                least = max(spans[evaluation, name][kind], default=None)
                test[kind]["seeds_differ"] = least
                if least is not None and abs(test[kind]["difference"]) <= least:
                    test[kind]["verdict"] = NO_DIFFERENCE
                elif test[kind]["verdict"] != NO_DIFFERENCE and len(test["of_seeds"]) < 2:
                    test[kind]["verdict"] += ", by one seed"
        return sorted_by

    @cached_property
    def untested(self) -> dict[str, str]:
        """Why a line could not be tested."""
        return {}


def fill(
    output: Path, tables: Sequence[Table], scale: Scale, seeds: Sequence[int], at_hand: Collection[str] | None = None
) -> list[Filled]:
    """Read what is under ``output``; ``at_hand`` names the data sets that are, None says nothing of it."""
    return [
        Filled(
            table,
            [
                Line(row, [Run(cell, output / CELLS / cell.name) for cell in cells])
                for row, cells in zip(table.rows, table.cells(scale, seeds).values(), strict=True)
            ],
            at_hand is None or table.dataset in at_hand,
        )
        for table in tables
    ]


def flat(filled: Sequence[Filled]) -> list[dict[str, Any]]:
    """One dictionary a table, line, seed and evaluation, for ``results.csv``; a cell without numbers says why."""
    found = []
    for one in filled:
        for line in one.lines:
            for run in line.runs:
                head = {
                    "table": one.table.key, "row": line.row.name, "bundle": run.cell.bundle,
                    "dataset": run.cell.dataset, "fraction": run.cell.fraction, "seed": run.cell.seed,
                    "cell": run.cell.name, "state": run.status["state"], "reason": run.status.get("error", ""),
                    "commit": run.sidecar.get("commit", ""), "device": run.sidecar.get("device", ""),
                    "steps": run.trained.get("steps", ""), "train_seconds": run.trained.get("seconds", ""),
                }  # fmt: skip
                done = [(name, where) for name in run.cell.evaluations if (where := run.scores(name))]
                for name, where in done:
                    found.append(head | {"evaluation": name} | numbers(read_json(where / "summary.json")))
                if not done:
                    found.append(head | {"evaluation": ""})
    return found


def numbers(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics of a summary with their intervals, flat."""
    found: dict[str, Any] = {"images": summary["images"], "subjects": summary["subjects"]}
    for name, path in METRICS.items():
        value: Any = summary
        for key in path:
            value = (value or {}).get(key)
        for end in ("value", "low", "high"):
            found[name if end == "value" else f"{name}_{end}"] = (value or {}).get(end)
    reliability = summary.get("reliability") or {}
    return found | {"calibration_error": reliability.get("error"), "missed": summary["missed"]}
