"""``python -m tools segment``: a folder of images in, masks and a report out, and nothing lost in between."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from common import __version__
from common.batch.engine import Batch, Finished, load_model, local_engine
from common.batch.find import Found, Search, check_output, find
from common.batch.job import COLUMNS, Job, Options, OutputLost, Workshop, fractional_of, lost_words, output_of
from common.batch.naming import Pseudonyms, nameless, places, targets_of
from common.batch.prompts import Prompts
from common.batch.results import read_rows, write_tables
from common.batch.store import FOLDER, Entry, Store
from common.bundle import bundle_folder, metadata_of
from common.errors import UserError
from common.files import sha256_of

LOG = logging.getLogger("segment")
_NOT_DONE = ("refused:", "failed:", "skipped:")
_GONE = "was there when the run began, and is gone"


class Bar(Protocol):
    """What shows how far a run is: of ``tqdm``."""

    def update(self, n: int) -> Any:
        """So many images more."""

    def close(self) -> Any:
        """It is at its end."""


@dataclass(frozen=True)
class Settings:
    """What a user asks for.

    Attributes:
        input: folder (or file) of the images.
        options: what is written and how.
        prompts: the sentences.
        include: reasons of refusal that are overridden.
        batch_size: images that go through the network together; 0 chooses.
        workers: processes that decode and write; None chooses, 0 does it in the network's process.
        device: such as ``"cpu"``; None takes a GPU if there is one.
        threads: of the network on a CPU; 0 leaves it to torch.
        restart: forget what an earlier command left in the output folder.
        engine: ``"local"``, or ``"ray"``: the cluster that Ray is connected to.
    """

    input: Path
    options: Options
    prompts: Prompts
    include: frozenset[str] = frozenset()
    batch_size: int = 0
    workers: int | None = None
    device: str | None = None
    threads: int = 0
    restart: bool = False
    engine: str = "local"


@dataclass
class Outcome:
    """What came of a run.

    Attributes:
        counts: as :func:`common.batch.results.write_tables` counts them.
        others: files that are no images.
        stopped: it was asked to stop, and more is to be done.
        unused: sentences without an image.
    """

    counts: Counter[str]
    others: int = 0
    stopped: bool = False
    unused: tuple[str, ...] = ()

    @property
    def code(self) -> int:
        """Exit code: 0 all done, 1 some refused, 2 nothing usable, 3 stopped."""
        if self.stopped:
            return 3
        if not self.counts["status done"]:
            return 2
        return 0 if self.counts["status done"] == self.counts["all"] else 1


class Run:
    """A folder, a bundle and an output folder.

    Args:
        settings: what is asked for.
        said: called with lines for the user; they hold no name and no sentence.
        stopping: asked between batches.

    Raises:
        UserError: something asked for cannot be had.
    """

    def __init__(
        self,
        settings: Settings,
        said: Callable[[str], None] = lambda line: None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.settings, self.options, self.said, self.stopping = settings, settings.options, said, stopping
        self.names = Pseudonyms(self.options.key)
        self.metadata = metadata_of(bundle_folder(self.options.bundle), self.options.overlays)
        self._last: Outcome | None = None
        check_output(settings.input, self.options.output)

    @cached_property
    def model(self) -> Any:
        """The network, loaded once."""
        return load_model(self.options, self.settings.device, self.settings.threads)

    def search(self) -> Search:
        """The files below the input folder."""
        return find(self.settings.input, self.metadata, include=self.settings.include, leave_out=self.options.output)

    def command(self) -> dict[str, Any]:
        """What must be the same for results to belong together; secrets and sentences as hashes."""
        import torch

        settings, options, prompts = self.settings, self.options, self.settings.prompts
        device = settings.device or ("cuda" if torch.cuda.is_available() else "cpu")
        return {
            "input": self.names.identifier(str(settings.input.resolve())), "bundle": self.metadata["name"],
            "bundle_version": self.metadata["version"], "overlays": list(options.overlays),
            "weights": options.weights_sha256, "prompts": self.names.identifier(_digest_of(prompts)),
            "include": sorted(settings.include),
            "no_prompt": options.no_prompt, "seg": options.seg, "pictures": options.pictures,
            "secondary_capture": options.secondary_capture, "batch_size": settings.batch_size or "auto",
            "pseudonyms": hashlib.sha256(options.key).hexdigest() if options.key else None,
            "device": device.split(":")[0], "threads": settings.threads, "version": __version__,
            "torch": torch.__version__,
            "override": {name: str(value) for name, value in options.override if name != "weights"},
        }  # fmt: skip

    def go(self, bar: Callable[[int, int], Bar], settled: float = 0.0) -> Outcome:
        """Do what is to be done: what an earlier attempt left, and what came since; may be called again and again.

        Args:
            bar: of the number of images in all and of those done already.
            settled: seconds for which a file must not have changed to be taken (one may still be being copied).

        Raises:
            OutputLost: the output folder cannot be written to.
            UserError: the folder holds another command's results, or nothing can be segmented.
        """
        search = self.search()
        found = {self.names.name(one.name): one for one in search.found}
        prompts = self.settings.prompts.assign(search.found)
        if not (search.found or settled or (self.options.output / FOLDER).exists()):
            raise UserError(
                f"{self.settings.input}: holds no image (DICOM, PNG, JPEG, TIFF, NIfTI); give another --input"
            )
        if self.settings.engine == "local":
            _ = self.model  # what is wrong with weights and device is said before anything is written
        store = self._store()
        try:
            with output_of(self.options):
                if self.settings.restart and self._last is None:
                    store.clear()
                if store.claim(self.command()) and store.parts and self._last is None:
                    self.said("going on with what an earlier run began")
            self._plan(store, found, settled)
            newest = store.newest()
            # a file that changed before its batch was done is in a later one too: once is enough
            todo = [
                (number, [entry for entry in batch if newest[entry.key] == number])
                for number, batch in store.batches() if not store.is_done(number)
            ]  # fmt: skip
            if not todo and self._last is not None:
                return self._last  # watching: nothing came since
            stopped = False
            left = sum(len(batch) for _, batch in todo)
            with contextlib.closing(bar(len(newest), len(newest) - left)) as shown:
                if todo:
                    stopped = self._work(store, todo, self._batches(todo, found, prompts), shown)
            if not stopped:
                self._series(store, found)
            with output_of(self.options):
                counts = self._tables(store)
            unused = tuple(self.settings.prompts.unused())
            self._last = Outcome(counts, search.others, stopped, unused)
            return self._last
        finally:
            store.close()

    def _store(self) -> Store:
        try:
            return Store(self.options.output)
        except UserError as error:
            if isinstance(error.__cause__, OSError) and (self.options.output / FOLDER).is_dir():
                # it could be written to before
                raise OutputLost(lost_words(self.options.output, error.__cause__)) from error
            raise

    def _plan(self, store: Store, found: dict[str, Found], settled: float) -> None:
        """Plan the files that no plan has."""
        known = store.known()
        # what was away may have come back as it was
        away = {row["source"] for row, _ in store.rows() if row["reason"] == _GONE}
        fresh: list[tuple[str, Found, int, int]] = []
        for key, one in found.items():
            before = known.get(key)
            size, changed = _stat(one.path, before.refused if before else bool(one.refused))
            if before is not None and (before.size, before.changed) == (size, changed) and key not in away:
                continue
            # another machine's clock may be ahead
            if settled and abs(time.time() - changed / 1e9) < settled:
                continue
            fresh.append((key, one, *_stat(one.path, bool(one.refused))))
        if not fresh:
            return
        # an image that changed keeps its place in the output
        wanted = [one.name for key, one, _, _ in fresh if key not in known]
        targets = targets_of(wanted, self.names, (entry.target for entry in known.values()))
        entries = [
            Entry(key, size, changed, known[key].target if key in known else targets[one.name], bool(one.refused))
            for key, one, size, changed in fresh
        ]
        with output_of(self.options):
            store.plan(entries, self.settings.batch_size or (32 if self.command()["device"] == "cuda" else 8))

    def _batches(
        self, todo: list[tuple[int, list[Entry]]], found: dict[str, Found], prompts: dict[str, Any]
    ) -> Iterator[Batch]:
        for number, entries in todo:
            jobs: list[Job] = []
            done: list[dict[str, Any]] = []
            for entry in entries:
                one = found.get(entry.key)
                row = {"source": entry.key} if one is None else self._row(entry.key, one)
                if one is not None:
                    problem = "" if self.options.key else self.settings.prompts.problems.get(one.name, "")
                    row["warnings"] = " | ".join(note for note in (self._told(one.note), problem) if note)
                prompt = None if one is None else prompts.get(one.name)
                if prompt is not None:
                    row |= {"prompt": "" if self.options.key else prompt.text, "prompt_source": prompt.source,
                            "prompt_laterality": prompt.laterality}  # fmt: skip
                refused = _GONE if one is None else self._told(one.refused)
                if refused:
                    done.append(dict.fromkeys(COLUMNS, "") | row
                                | {"status": "refused", "verdict": "failed", "reason": refused})  # fmt: skip
                elif one is not None:
                    given = None if prompt is None else (prompt.text, prompt.laterality)
                    jobs.append(Job(one.path, one.name, entry.target, row, given))
            yield Batch(number, jobs, done)

    def _row(self, key: str, one: Found) -> dict[str, Any]:
        """Columns that are known before a file is opened."""
        hide, header = self.names.identifier, one.header
        return {
            "source": key, "format": one.format, "modality": header.modality, "body_part": header.body_part,
            "view": header.view, "series": hide(one.series), "position": one.position if one.series else "",
            "sop_instance_uid": hide(header.sop_instance), "study_instance_uid": hide(header.study),
            "accession_number": hide(header.accession), "patient_id": hide(header.patient),
            "included": self._told(one.overridden),
        }  # fmt: skip

    def _told(self, words: str) -> str:
        """What was found of a file, without the names of others where names are hashes."""
        return nameless(words) if self.options.key else words

    @contextlib.contextmanager
    def _engine(self) -> Iterator[Any]:
        """The engine of a run, closed at the end of the block."""
        settings = self.settings
        if settings.engine == "ray":
            from common.batch.ray_engine import RayEngine

            made: Any = RayEngine(settings.options, settings.device, settings.threads, self.said)
        else:
            made = local_engine(settings.options, self.model, settings.workers, self.said)
        try:
            yield made
        finally:
            made.close()

    def _work(self, store: Store, todo: list[tuple[int, list[Entry]]], batches: Iterator[Batch], bar: Bar) -> bool:
        """Segment batches; whether it was stopped before the last."""
        planned = dict(todo)
        with self._engine() as engine:
            for finished in engine.run(batches, self.stopping):
                self._keep(store, finished, planned[finished.batch.number])
                bar.update(len(finished.batch.jobs) + len(finished.batch.done))
        return any(not store.is_done(number) for number in planned)

    def _keep(self, store: Store, finished: Finished, entries: list[Entry]) -> None:
        """A batch is done: its rows in the plan's order."""
        if store.lost():
            raise OutputLost(lost_words(self.options.output, None))
        order = {entry.key: i for i, entry in enumerate(entries)}
        rows = [*finished.rows, *finished.batch.done]
        seconds = [*finished.seconds, *({} for _ in finished.batch.done)]
        both = sorted(zip(rows, seconds, strict=True), key=lambda pair: order[pair[0]["source"]])
        with output_of(self.options):
            # nothing stays of what an image was before it changed, or of one that failed half way
            for (row, _), entry in zip(both, entries, strict=True):
                for path in places(entry.target).values() if row["status"] != "done" else ():
                    with contextlib.suppress(OSError):
                        (self.options.output / path).unlink()
            store.finish(finished.batch.number, [row for row, _ in both], [second for _, second in both])
        statuses = Counter(row["status"] for row, _ in both)
        LOG.info("batch done", extra={"facts": {"batch": finished.batch.number, "images": dict(statuses)}})

    def _series(self, store: Store, found: dict[str, Found]) -> None:
        """One SEG of each CT series, when all its slices are done."""
        if self.options.seg == "off":
            return
        slices: dict[str, list[tuple[str, str]]] = {}
        for row, _ in store.rows():
            if row["series"] and row["status"] == "done" and row["source"] in found:
                slices.setdefault(row["series"], []).append((row["source"], row["mask"]))
        if not slices:
            return
        shop = Workshop(self.options)
        for series, members in slices.items():
            name = f"series-{hashlib.sha256(series.encode()).hexdigest()[:16]}"
            digest = hashlib.sha256(json.dumps(members).encode()).hexdigest()
            if store.noted(name).get("members") == digest:
                continue
            target = f"seg/{name}.seg.dcm"
            facts = {"series": series, "members": digest, "seg": target, "reason": ""}
            try:
                frames = [self._frame(mask) for _, mask in members]
                shop.write_seg(self.options.output / target, [found[key].path for key, _ in members], frames)
            except UserError as error:
                facts |= {"seg": "", "reason": str(error)}
            with output_of(self.options):
                store.note(name, facts)

    def _frame(self, mask: str) -> Any:
        import numpy as np
        from PIL import Image

        if self.options.seg == "binary":
            return np.asarray(Image.open(self.options.output / mask)) > 0
        grey = Image.open(fractional_of(self.options.output, mask.removeprefix("masks/")))
        return np.asarray(grey).astype(np.float32) / 255

    def _tables(self, store: Store) -> Counter[str]:
        """Write tables and report."""
        series: dict[str, dict[str, Any]] = {}
        for path in (store.folder / "done").glob("series-*.json"):
            facts = store.noted(path.stem)
            series[facts["series"]] = facts

        def rows() -> Iterator[tuple[dict[str, Any], dict[str, float]]]:
            for row, seconds in store.rows():
                facts = series.get(row["series"]) if row["status"] == "done" and row["series"] else None
                if facts is not None:
                    row["seg"] = facts["seg"]
                    if facts["reason"]:
                        row["warnings"] = " | ".join(x for x in (row["warnings"], facts["reason"]) if x)
                yield row, seconds

        counts = write_tables(rows(), self.options.output)
        from common.report.report_page import write_report

        title = f"{self.metadata['name']}: {counts['all']} files"
        listed = read_rows(self.options.output / "results.json")
        write_report(listed, self.options.output, title, summary_of(counts)[:1])
        return counts


def summary_of(counts: Counter[str]) -> list[str]:
    """What came of a run, in lines: how many were segmented, the share of each verdict, and why others were not."""
    done = counts["status done"]
    lines = [f"{done} of {counts['all']} files segmented, {counts['lesion']} with a lesion"]
    verdicts = {name: counts[f"verdict {name}"] for name in ("review", "note", "ok")}
    lines += [f"{name}: {number} ({number / done:.1%})" for name, number in verdicts.items() if number]
    reasons = [(number, words) for words, number in counts.items() if words.startswith(_NOT_DONE)]
    lines += [f"{number} {words}" for number, words in sorted(reasons, reverse=True)[:10]]
    if len(reasons) > 10:
        lines.append(f"and {len(reasons) - 10} other reasons; see results.csv")
    return lines


def weights_digest(bundle: str, overlays: Sequence[str], override: Mapping[str, Any]) -> str:
    """SHA-256 of a bundle's weights.

    Raises:
        UserError: there are none.
    """
    from common.bundle import bundle_folder, weights
    from common.runtime.model import Processing

    folder = bundle_folder(bundle)
    return sha256_of(Path(weights(Processing(folder, overlays, **override).weights)))


def _digest_of(prompts: Prompts) -> str:
    """A hash of all sentences that do not lie beside the images."""
    content = prompts.path.read_bytes() if prompts.path else b""
    settings = json.dumps([prompts.default, prompts.laterality, prompts.beside, prompts.reports])
    return hashlib.sha256(content + settings.encode()).hexdigest()


def _stat(path: Path, refused: bool) -> tuple[int, int]:
    """Size, and when the content changed; of a file that was refused also when its rights did, for that may be why."""
    try:
        status = path.stat()
    except OSError:
        return -1, 0
    return status.st_size, status.st_ctime_ns if refused else status.st_mtime_ns
