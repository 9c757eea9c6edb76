"""The evaluator as a handler: one row an image, one summary, one table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch.distributed as dist
from ignite.engine import Engine, Events

from common.errors import UserError
from common.files import write_text
from common.images import read_mask, to_display
from common.metrics import format_table, score_case, summarise, write_scores
from common.metrics.reliability import Reliability
from common.prompts import parse


class ScoreCases:
    """Score every image of an evaluation and write ``scores.csv``, ``summary.json`` and ``table.txt``.

    Args:
        folder: where the files go.
        grammar: of the sentences, for text-mask consistency.
        grid: ``"source"``: predictions, inverted to the file's own grid, against the mask as the file holds it, so
            that the numbers are those of the written masks. ``"network"``: both at the network's size, as the papers
            do; the table says so.
        about: what ``summary.json`` says of the run (bundle, data, seed).
        kind: of image, as :mod:`common.prompts.zones` names it; None takes the grammar's usual one.
    """

    def __init__(
        self,
        folder: str | Path,
        grammar: str,
        grid: Literal["source", "network"] = "source",
        about: Mapping[str, Any] | None = None,
        kind: str | None = None,
    ) -> None:
        if grid not in ("source", "network"):
            raise UserError(
                f"scored_grid is {grid!r}; write 'source' (the files' own grids) or 'network' (the papers')"
            )
        self.folder, self.grammar, self.grid, self.kind = Path(folder), grammar, grid, kind
        self.about = dict(about or {})
        self.rows: list[dict[str, Any]] = []
        self.reliability = Reliability()

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator whose post-processing gives binary ``pred``."""
        engine.add_event_handler(Events.EPOCH_STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, self.finish)

    def start(self, engine: Engine) -> None:
        """Begin an evaluation."""
        self.rows, self.reliability = [], Reliability()

    def __call__(self, engine: Engine) -> None:
        """Score one decollated batch."""
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            self.rows.append(self.score(item, output["pred"], output.get("probability")))

    def score(self, item: Mapping[str, Any], pred: Any, probability: Any = None) -> dict[str, Any]:
        """The row of one image: ``item`` as the transforms left it, ``pred`` (1, ., .) binary.

        ``probability``, of the same shape, is counted for the reliability curve.
        """
        meta = item["image"].meta
        case = {key: item.get(key) for key in ("subject", "source", "text_prompt", "prompt_used")}
        case["image"] = str(meta["filename_or_obj"])
        found = np.asarray(pred.cpu())[0] > 0.5
        spacing = None
        if self.grid == "network":
            truth = np.asarray(item["label"].cpu())[0] > 0.5
        else:
            truth = read_mask(str(item["label"].meta["filename_or_obj"]), meta)
            found = to_display(found, meta["display"])
            spacing = tuple(float(mm) for mm in meta["spacing_mm"])
            spacing = spacing if np.isfinite(spacing).all() else None
        if probability is not None:
            chance = np.asarray(probability.cpu())[0]
            self.reliability.add(chance if self.grid == "network" else to_display(chance, meta["display"]), truth)
        given = item.get("prompt_used") == "given"
        findings = parse(item["text_prompt"], "image", self.grammar) if given else None
        return score_case(found, truth, case=case, findings=findings, spacing=spacing, kind=self.kind)

    def finish(self, engine: Engine) -> None:
        """Gather the rows of all processes; the first one writes and prints."""
        if dist.is_available() and dist.is_initialized():
            parts: list[tuple[list[dict[str, Any]], Reliability]] = [([], Reliability())] * dist.get_world_size()
            dist.all_gather_object(parts, (self.rows, self.reliability))
            self.rows = [row for rows, _ in parts for row in rows]
            self.reliability = sum((part for _, part in parts), Reliability())
        self.rows.sort(key=lambda row: row["image"])
        if engine.state.rank == 0:
            default = sum(row["prompt_used"] == "default" for row in self.rows)
            summary = {**self.about, "grid": self.grid, "default_sentences": default, **summarise(self.rows)}
            summary["reliability"] = self.reliability.summary()
            write_scores(self.rows, summary, self.folder)
            table = f"{default} with the default sentence: none given, or not understood\n" + format_table(summary)
            write_text(self.folder / "table.txt", table)
            print(table, flush=True)
