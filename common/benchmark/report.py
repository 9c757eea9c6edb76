"""The benchmark's tables, as Markdown, CSV and one HTML page; nothing in them is typed by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from common.benchmark import published
from common.benchmark.cells import OWN
from common.benchmark.protocols import DATASETS, Scale
from common.benchmark.results import Filled, Line, Run
from common.benchmark.statistics import NO_DIFFERENCE
from common.report.tables import markdown_table

CONTROL_WORDS = {
    OWN: "its own sentence", "default": "none: the default one", "shuffled": "another image's",
    "mirrored": "sides swapped", "blank": "image blank", "original": "as typed", "canonical": "canonical",
}  # fmt: skip
DEGRADE_WORDS = {
    OWN: "clean", "noise140": "dose 140", "noise120": "dose 120", "noise110": "dose 110", "blur3": "blur 3",
    "blur5": "blur 5", "blur7": "blur 7",
}  # fmt: skip
DEFINITION_WORDS = {
    "micro": "micro", "near_micro": "nearly micro", "per_image": "per image", "neither": "fits no definition",
    "unknown": "no IoU given",
}  # fmt: skip


@dataclass
class Block:
    """A heading, a table, and notes below it."""

    title: str
    rows: list[dict[str, Any]]
    columns: tuple[str, ...]
    notes: list[str] = field(default_factory=list)
    level: int = 2

    def markdown(self, heading: bool = True) -> str:
        """As Markdown."""
        parts = [f"{'#' * self.level} {self.title}\n"] if heading else []
        if self.rows:
            parts.append(markdown_table(self.rows, self.columns))
        if self.notes:
            parts.append("\n".join(f"- {note}" for note in self.notes) + "\n")
        return "\n".join(parts)


def percent(statistic: Mapping[str, Any] | None, scale: float = 100.0, interval: bool = True) -> str:
    """``82.48 [80.86, 83.88]``; empty where a statistic is not defined."""
    if not statistic or statistic["value"] is None:
        return ""
    value, low, high = (scale * statistic[key] for key in ("value", "low", "high"))
    return f"{value:.2f} [{low:.2f}, {high:.2f}]" if interval else f"{value:.2f}"


def both(summary: Mapping[str, Any]) -> str:
    """Both kinds of Dice, ``82.48 / 72.87``: micro and per image."""
    return " / ".join(percent(summary["dice"][key], interval=False) for key in ("micro", "per_image"))


def seeds_of(line: Line, *path: str) -> str:
    """The values of the seeds, where there are several: ``(82.48, 82.51)``."""
    values = []
    for summary in line.each():
        for key in path:
            summary = summary[key]
        values.append(summary["value"])
    return f" ({', '.join(f'{100 * value:.2f}' for value in values)})" if len(values) > 1 else ""


COLUMNS = (
    "row", "seeds", "Dice micro, %", "Dice per image, %", "IoU micro, %", "IoU per image, %", "HD95, px", "ASSD, px",
    "sides, %", "paper: Dice / IoU, %",
)  # fmt: skip


def paper_cell(line: Line, evaluation: str = OWN) -> str:
    """The paper's numbers, with the definition that they show."""
    row = line.paper(evaluation)
    if row is None:
        return ""
    iou = "" if row.iou is None else f" / {row.iou:.2f}"
    return f"{row.dice:.2f}{iou} ({DEFINITION_WORDS[row.definition]})"


def block_of_scores(filled: Filled) -> Block:
    """The table itself; what is not there says why."""
    rows, notes = [], []
    for line in filled.lines:
        summary = line.summary()
        row = {"row": line.row.name, "paper: Dice / IoU, %": paper_cell(line)}
        if summary:
            row |= {
                "seeds": ", ".join(map(str, line.seeds)),
                "Dice micro, %": percent(summary["dice"]["micro"]) + seeds_of(line, "dice", "micro"),
                "Dice per image, %": percent(summary["dice"]["per_image"]) + seeds_of(line, "dice", "per_image"),
                "IoU micro, %": percent(summary["iou"]["micro"], interval=False),
                "IoU per image, %": percent(summary["iou"]["per_image"], interval=False),
                "HD95, px": percent(summary["hd95"]["px"], 1.0),
                "ASSD, px": percent(summary["assd"]["px"], 1.0, interval=False),
                "sides, %": percent(summary["consistency"]["laterality"]["prediction"], interval=False),
            }
        else:
            row["seeds"] = _why(line, filled.at_hand)
        notes += [
            f"{line.row.name}, seed {run.cell.seed}: failed: {run.status.get('error', '')}"
            for run in line.runs if run.status["state"] == "failed"
        ]  # fmt: skip
        rows.append(row)
    if filled.scored:
        one = filled.scored[0].each()[0]
        notes.insert(
            0,
            f"{one['images']} images of {one['subjects']} subjects, split {one['split']}, scored in the {one['grid']} "
            "grid; intervals: 95 % over subjects. `sides`: the mask is on the sides that the sentence names.",
        )
    return Block(filled.table.title, rows, COLUMNS, notes)


def _why(line: Line, at_hand: bool) -> str:
    """Why a line has no numbers."""
    if any(run.status["state"] == "failed" for run in line.runs):
        return "failed"
    return "not run" if at_hand else "no data"


def block_of_tests(filled: Filled) -> Block | None:
    """Each line against the reference."""
    rows = []
    for name, test in filled.tests.items():
        row: dict[str, Any] = {
            "row": name, "against": test["reference"], "seeds": ", ".join(map(str, test["of_seeds"])),
        }  # fmt: skip
        spans = []
        for key, word in (("micro", "micro"), ("per_image", "per image")):
            found = test[key]
            if found is None:
                continue
            row |= {
                f"difference {word}, points": percent(found | {"value": found["difference"]}),
                f"p {word}": _p(found["p_holm"]),
                f"verdict {word}": _verdict(found, test),
            }
            if key == "per_image":
                row["p Wilcoxon"] = _p(found["wilcoxon_p_holm"])
            if found["seeds_differ"] is not None:
                spans.append(f"{100 * found['seeds_differ']:.2f}")
        rows.append(row | {"between seeds, points": " / ".join(spans)})
    notes = [f"{name}: not tested: {why}" for name, why in filled.untested.items()]
    title = f"{filled.table.title}: one row against another"
    if not rows:
        return Block(title, [], (), notes, level=3) if notes else None
    columns = (
        "row", "against", "seeds", "difference micro, points", "p micro", "verdict micro",
        "difference per image, points", "p per image", "p Wilcoxon", "verdict per image", "between seeds, points",
    )  # fmt: skip
    note = (
        "Paired over the same images and seeds, subjects resampled; p corrected by Holm over this table. No difference "
        "is seen where the interval holds 0, p is 0.05 or more, or the difference is not larger than that between the "
        "seeds of either of the two (micro / per image; empty where neither has two). *By one seed*: another one may "
        "give another verdict."
    )
    return Block(title, rows, columns, [note, *notes], level=3)


def _verdict(found: Mapping[str, Any], test: Mapping[str, Any]) -> str:
    return found["verdict"].replace("first", "this one").replace("second", test["reference"])


def block_of_degraded_tests(filled: Filled) -> Block | None:
    """Each line against the reference on worse pictures: the difference of micro Dice, and whether it is one."""
    rows: dict[str, dict[str, Any]] = {}
    tests = filled.degraded_tests
    spans: dict[str, float] = {}
    for evaluation, found in tests.items():
        for name, test in found.items():
            one = test["micro"]
            if one is None:
                continue
            seen = "none seen" if one["verdict"] == NO_DIFFERENCE else _verdict(one, test)
            row = rows.setdefault(name, {"row": name, "against": test["reference"]})
            row[DEGRADE_WORDS[evaluation]] = f"{percent(one | {'value': one['difference']})}: {seen}"
            if one["seeds_differ"] is not None:
                spans[name] = max(spans.get(name, 0.0), one["seeds_differ"])
                row["between seeds at most, points"] = f"{100 * spans[name]:.2f}"
    if not rows:
        return None
    columns = ("row", "against", *(DEGRADE_WORDS[name] for name, found in tests.items() if found))
    note = (
        "Difference of micro Dice in points, seen or not as in the table above; p corrected by Holm over all of these."
    )
    return Block(
        f"{filled.table.title}: one row against another on worse pictures", list(rows.values()),
        (*columns, "between seeds at most, points"), [note], 3,
    )  # fmt: skip


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def block_of_controls(filled: Filled) -> Block | None:
    """Dice of each line under the other sentences, and without the picture: micro / per image."""
    note = (
        "Dice, %: micro / per image, of the same weights. A text-guided method loses by a wrong sentence; what is left "
        "without the picture is the sentence's."
    )
    what = "with other sentences than the images' own"
    return _block_of_conditions(filled, CONTROL_WORDS, what, note)


def block_of_degradations(filled: Filled) -> Block | None:
    """Dice of each line on worse pictures: micro / per image; the paper's below it."""
    note = "Dice, %: micro / per image, of the same weights."
    return _block_of_conditions(filled, DEGRADE_WORDS, "with worse pictures", note)


def _block_of_conditions(filled: Filled, words: Mapping[str, str], what: str, note: str) -> Block | None:
    """A column for each of the evaluations that ``words`` names, if there are others than the images' own."""
    held = [name for name in filled.evaluations if name in words and any(line.rows(name) for line in filled.lines)]
    if len(held) < 2:
        return None
    rows = []
    for line in filled.scored:
        same = line.of_same_seeds(held)
        row: dict[str, Any] = {"row": line.row.name, "seeds": ", ".join(map(str, same.seeds))}
        for name in held:
            summary = same.summary(name)
            if summary:
                row[words[name]] = both(summary)
        rows.append(row)
        papers = {words[name]: paper_cell(line, name) for name in held}
        if sum(map(bool, papers.values())) > 1:  # the one of clean pictures stands in the table above
            rows.append({"row": f"{line.row.name}: the paper's Dice / IoU", **papers})
    return Block(f"{filled.table.title}: {what}", rows, ("row", "seeds", *(words[n] for n in held)), [note], 3)


def block_of_subsets(filled: Filled, subsets: Mapping[str, Mapping[str, Mapping[str, Any] | None]]) -> Block | None:
    """Dice on parts of the images: ``subsets[line][part]`` is a summary."""
    names = list(dict.fromkeys(name for parts in subsets.values() for name in parts))
    seeds = {line.row.name: len(line.seeds) for line in filled.scored}  # whose images a summary counts all
    rows = []
    for line, parts in subsets.items():
        row: dict[str, Any] = {"row": line}
        for name in names:
            summary = parts.get(name)
            if summary:
                row[f"{name} ({summary['images'] // seeds[line]})"] = both(summary)
        rows.append(row)
    if not rows:
        return None
    columns = tuple(dict.fromkeys(key for row in rows for key in row))
    return Block(
        f"{filled.table.title}: parts of the images", rows, columns, ["Dice, %: micro / per image, of all seeds."], 3
    )


def block_of_costs(costs: Mapping[str, Mapping[str, Any]]) -> Block | None:
    """Parameters, operations, time and memory of each network, and its time against the first one's."""
    if not costs:
        return None
    first = next(iter(costs.values()))["milliseconds"]
    rows = [
        {
            "network": name,
            "parameters, M": cost["parameters"]["all"] / 1e6,
            "trained, M": cost["parameters"]["trained"] / 1e6,
            "GFLOPs": cost["flops"] / 1e9,
            "ms an image": cost["milliseconds"],
            "times the first": cost["milliseconds"] / first,
            "memory, MiB": "" if cost["peak_bytes"] is None else f"{cost['peak_bytes'] / 2**20:.0f}",
        }
        for name, cost in costs.items()
    ]
    some = next(iter(costs.values()))
    note = (
        f"One image at a time at {some['image_size']}, sentence encoded anew each time; {some['device']}, "
        f"{some['threads']} threads, one network after the other in one run."
    )
    return Block("Networks", rows, tuple(rows[0]), [note])


def block_of_provenance(filled: Sequence[Filled], scale: Scale) -> Block:
    """What was run on what: one line a training."""
    runs: dict[str, tuple[Run, list[str]]] = {}
    for one in filled:
        for line in one.lines:
            for run in line.runs:
                runs.setdefault(run.cell.name, (run, []))[1].append(line.row.name)
    rows = [
        {
            "cell": name,
            "rows": ", ".join(dict.fromkeys(names)),
            "images": run.sidecar["data"]["items"],
            "data": run.sidecar["data"]["sha256"][:12],
            "steps": run.trained["steps"],
            "seconds": f"{run.trained['seconds']:.0f}",
            "epoch": f"{run.sidecar['epoch']} of {run.trained['epochs']}",
            "commit": run.sidecar["commit"][:12] + ("-dirty" if "dirty" in run.sidecar["commit"] else ""),
            "torch": run.sidecar["versions"]["torch"],
            "device": run.sidecar["device"],
        }
        for name, (run, names) in runs.items() if run.trained and run.sidecar
    ]  # fmt: skip
    columns = ("cell", "rows", "images", "data", "steps", "seconds", "epoch", "commit", "torch", "device")
    notes = [f"Scale {scale.name}: {scale.words}."]
    if rows:
        notes.append(
            "`data`: the first digits of a SHA-256 over names, sizes and sentences of the training rows; `seconds` "
            "with validation, on a machine that other work may have shared; `epoch`: that of the weights."
        )
    return Block("What was run", rows, columns, notes)


def absent(filled: Sequence[Filled]) -> list[str]:
    """A line for each data set that is not at hand."""
    names = dict.fromkeys(one.table.dataset for one in filled if not one.at_hand)
    return [f"{DATASETS[name]}: not at hand, its rows are not run." for name in names]


def anchors() -> list[str]:
    """What to keep in mind when the papers' numbers are looked at."""
    both = published.rows(table="conversion")
    return [
        f"The same {row.method} on {DATASETS[row.dataset]}: {row.dice:.2f} ({DEFINITION_WORDS[row.definition]})"
        for row in both
    ]
