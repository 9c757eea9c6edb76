"""One image of a folder: read and prepared, and, once the network has seen it, written; each step in any process.

What one file gets wrong is its row's reason. A fault of the output (disk full, folder gone) is no file's fault: it is
raised as :class:`OutputLost` and stops the run.
"""

from __future__ import annotations

import errno
import pickle
import re
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.utils import TraceKeys
from PIL import Image

from common.batch.describe import describe, marker, whose_sides
from common.batch.header import bare
from common.batch.naming import Pseudonyms, nameless, places
from common.batch.store import FOLDER
from common.bundle import bundle_folder
from common.errors import UserError, user_error
from common.files import replacing, sha256_of
from common.images.meta import shown
from common.prompts import parse
from common.report.overlay import overlay
from common.report.report_page import write_thumbnail
from common.runtime.model import Processing, Segmentation

COLUMNS = (
    "source", "status", "verdict", "reason", "warnings", "mask", "overlay", "seg", "secondary_capture", "sha256",
    "prompt", "prompt_laterality", "prompt_source", "prompt_used", "understood", "understood_laterality",
    "sides_named", "mask_sides", "mask_zones", "rows", "columns", "pixels", "share", "area_mm2", "orientation",
    "orientation_source", "format", "modality", "body_part", "view", "series", "position", "sop_instance_uid",
    "study_instance_uid", "accession_number", "patient_id", "included",
)  # fmt: skip
# what the file's own name may cause, its folder's too; every other fault of writing is the output's
_OWN = {errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY}
_WITHHELD = "what was made of the sentence is withheld"


class OutputLost(Exception):
    """The output folder cannot be written to: no file's fault, and the run stops with this one line."""


@dataclass(frozen=True)
class Options:
    """What holds for all images of a run.

    Attributes:
        bundle: its folder or name.
        overlays: configurations on top of its ``inference.json``.
        override: ids of the configuration and their values.
        output: folder of all that is written.
        no_prompt: what becomes of an image without a sentence that can be read: ``"skip"`` or ``"default"``.
        seg: DICOM SEG of DICOM sources: ``"off"``, ``"binary"`` or ``"fractional"``.
        pictures: write overlays.
        secondary_capture: write the overlay as DICOM too, of DICOM sources.
        key: identifiers are replaced by hashes keyed with it; None keeps them.
        weights_sha256: of the weights: the algorithm's version in a SEG.
    """

    bundle: str
    output: Path
    overlays: tuple[str, ...] = ()
    override: tuple[tuple[str, Any], ...] = ()
    no_prompt: str = "skip"
    seg: str = "off"
    pictures: bool = True
    secondary_capture: bool = False
    key: bytes | None = None
    weights_sha256: str = ""


@dataclass(frozen=True)
class Job:
    """One image to be segmented.

    Attributes:
        path: the file.
        name: its path below the input folder.
        target: the name of its mask below ``masks/``.
        row: what is known of it already, columns of :data:`COLUMNS`.
        prompt: the sentence given and whose left it means, or None.
    """

    path: Path
    name: str
    target: str
    row: dict[str, Any]
    prompt: tuple[str, str] | None = None


@dataclass
class Prepared:
    """An image on its way: with a row only, it is done."""

    row: dict[str, Any]
    network: dict[str, Any] | None = None  # "image" (C, H, W) and "text" (L,), NumPy
    rest: bytes = b""  # the data dictionary, pickled, for who finishes it
    picture: np.ndarray | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    trace: str = ""  # where an exception arose that is no known fault of a file


class Workshop:
    """What a process needs to work on images: a bundle's processing, without its network."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.processing = Processing(bundle_folder(options.bundle), options.overlays, **dict(options.override))
        self.names = Pseudonyms(options.key)

    def prepare(self, job: Job) -> Prepared:
        """Read one image; the sentence that cannot be read counts as none, as ``no_prompt`` says."""
        start = time.perf_counter()
        row = dict.fromkeys(COLUMNS, "") | job.row
        try:
            digest = _sha256(job.path)
            row["sha256"] = self.names.identifier(digest)
            sentence, laterality, notes = self._sentence(job)
            notes = [*([row["warnings"]] if row["warnings"] else []), *notes]
            if sentence is None and self.processing.takes_text and self.options.no_prompt == "skip":
                row |= {"status": "skipped", "verdict": "failed", "warnings": "",
                        "reason": " | ".join([*notes, "no sentence, and --no-prompt is skip"])}  # fmt: skip
                return Prepared(row, seconds={"decode": time.perf_counter() - start})
            row["warnings"] = " | ".join(notes)
            data = self.processing.prepare(job.path, sentence, laterality)
            displayed = data.pop("displayed")
            picture = _small(displayed) if self._draws(row) else None
        except Exception as error:
            return self._failed(row, job, error, {"decode": time.perf_counter() - start})
        for operation in data["image"].applied_operations:
            # another process will undo it with its own objects
            operation[TraceKeys.ID] = TraceKeys.NONE
        network = {"image": data["image"].as_tensor().numpy()}
        if "text" in data:
            network["text"] = np.asarray(data["text"])
        return Prepared(row, network, pickle.dumps(data), picture, {"decode": time.perf_counter() - start})

    def finish(self, job: Job, prepared: Prepared, logits: np.ndarray) -> Prepared:
        """Write what became of an image whose logits (1, H, W) are there.

        Raises:
            OutputLost: the output folder cannot be written to.
        """
        start = time.perf_counter()
        row = dict(prepared.row)
        try:
            result = self.processing.finish(pickle.loads(prepared.rest), torch.from_numpy(logits))
            if self.options.key and result.findings is not None and result.findings.warnings:
                result.findings = replace(result.findings, warnings=(_WITHHELD,))
            laterality = row["prompt_laterality"] if result.prompt_used != "default" else ""
            facts = describe(result, self.processing.grammar, self.processing.kind, laterality, prepared.picture)
            written = self._write(job, result, row, prepared.picture)
            notes = [note for note in (row["warnings"], facts.pop("warnings"), written.pop("fault", "")) if note]
            row |= facts | written | {"status": "done", "warnings": " | ".join(notes)}
            if row["verdict"] == "ok" and notes:
                row["verdict"] = "note"
        except OutputLost:
            raise
        except Exception as error:
            return self._failed(row, job, error, prepared.seconds)
        return Prepared(row, seconds=prepared.seconds | {"write": time.perf_counter() - start})

    def _sentence(self, job: Job) -> tuple[str | None, str | None, list[str]]:
        """The sentence to be used, whose left it means, and what is to be said of it."""
        if job.prompt is None:
            return None, None, []
        text, laterality = job.prompt
        found = parse(text, laterality, self.processing.grammar)
        if found.understood:
            return text, laterality, []
        words = "withheld" if self.options.key else ", ".join(found.unreadable)
        return None, None, [f"sentence not understood: {words}"]

    def _draws(self, row: dict[str, Any]) -> bool:
        return self.options.pictures or (self.options.secondary_capture and row["format"] == "dicom")

    def _write(self, job: Job, result: Segmentation, row: dict[str, Any], picture: Any) -> dict[str, str]:
        """Mask, overlay and DICOM objects of one image; their columns."""
        output, place = self.options.output, places(job.target)
        written = {"mask": place["mask"]}
        with output_of(self.options):
            result.save(output / written["mask"])
        if picture is not None:
            drawn = self._draw(result, row, picture)
            if self.options.pictures:
                written["overlay"] = place["overlay"]
                with output_of(self.options), replacing(output / written["overlay"]) as part:
                    Image.fromarray(drawn).save(part, format="JPEG", quality=88)
                with output_of(self.options):
                    write_thumbnail(output, written["overlay"], drawn)
        if row["format"] == "dicom" and self.options.secondary_capture:
            from common.images.write_sc import write_secondary_capture

            written["secondary_capture"] = place["secondary_capture"]
            with output_of(self.options):
                path = output / written["secondary_capture"]
                write_secondary_capture(path, job.path, drawn, algorithm=self.algorithm())
        if row["format"] == "dicom" and self.options.seg != "off":
            if row["series"]:
                # one SEG a series, when all its slices are there: the probabilities wait for it
                if self.options.seg == "fractional":
                    part_name = fractional_of(output, job.target)
                    with output_of(self.options), replacing(part_name) as part:
                        grey = (result.probability * 255).round().astype(np.uint8)
                        Image.fromarray(grey).save(part, format="PNG")
            else:
                written["seg"] = place["seg"]
                frame = result.probability if self.options.seg == "fractional" else result.mask
                try:
                    self.write_seg(output / written["seg"], [job.path], [frame])
                except UserError as error:
                    # the mask is there; that nothing can refer to its image is to be known
                    written |= {"seg": "", "fault": bare(job.path, error)}
        return written

    def write_seg(self, path: Path, sources: list[Path], frames: list[np.ndarray]) -> None:
        """A DICOM SEG of one image or of the slices of a series.

        Raises:
            OutputLost: the output folder cannot be written to.
            UserError: the sources do not allow it.
        """
        from common.images.write_seg import write_seg

        with output_of(self.options):
            write_seg(path, sources, frames, fractional=self.options.seg == "fractional", algorithm=self.algorithm())

    def algorithm(self) -> Any:
        """The bundle as DICOM identifies an algorithm."""
        from common.images.derived import Algorithm

        metadata = self.processing.metadata
        return Algorithm(metadata["name"], metadata["version"], self.options.weights_sha256)

    def _draw(self, result: Segmentation, row: dict[str, Any], picture: np.ndarray) -> np.ndarray:
        whose = whose_sides(result, self.processing.grammar, row["prompt_laterality"])
        whose_words = {"patient": "the patient's sides", "image": "sides of the picture"}[whose]
        findings = result.findings
        if result.prompt_used == "not used":
            sentence = "the bundle takes no sentence"
        elif findings is not None and findings.understood:
            sentence = f"{findings.caption(whose)} ({whose_words})"
        else:
            sentence = "no sentence: the default one, which asserts disease everywhere"
        mask = _small_mask(result.displayed, picture.shape[:2])
        return overlay(picture / np.float32(255), mask, sentence=sentence,
                       marker=marker(result, self.processing.grammar))  # fmt: skip

    def _failed(self, row: dict[str, Any], job: Job, error: Exception, seconds: dict[str, float]) -> Prepared:
        fault = user_error(error)
        reason = " ".join(str(fault or f"{type(error).__name__}: {error}").split())
        for path in (str(job.path), shown(job.path), job.path.name, shown(job.path.name)):
            name = " ".join(path.split())
            reason = reason.removeprefix(f"{name}: ")
            # reasons are counted and printed, and names are not; those of a letter or two say nothing
            if len(name) > 2:
                reason = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "the file", reason)
        if self.options.key:
            reason = nameless(reason)
        row = row | {"status": "failed", "verdict": "failed", "reason": reason}
        # the words of an exception that nobody foresaw may hold names: where it arose does not
        return Prepared(row, seconds=seconds, trace="" if fault else f"{type(error).__name__} at {_where(error)}")


class output_of:
    """Turn faults of writing that are the output's into :class:`OutputLost`; a folder that is gone is not made anew."""

    def __init__(self, options: Options) -> None:
        self.output = options.output

    def __enter__(self) -> None:
        # writers make the folders of a file: what is done is lost already, and must not seem to be there
        if not (self.output / FOLDER).is_dir():
            raise OutputLost(lost_words(self.output, None))

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, OSError):
            cause = cause.__cause__
        if isinstance(cause, OSError) and cause.errno not in _OWN:
            raise OutputLost(lost_words(self.output, cause if (self.output / FOLDER).is_dir() else None)) from error


def lost_words(output: Path, fault: OSError | None) -> str:
    """What is said of an output folder that cannot be written to, or (None) is gone."""
    reason = f"cannot be written to ({fault.strerror or fault})" if fault else "is gone"
    mend = "mend it (space, permission, mount) and run the same command again: what is there is kept"
    return f"{shown(output)}: {reason}; {mend}"


def _where(error: BaseException) -> str:
    """File, line and function of each frame: a traceback without values."""
    import traceback

    return " < ".join(
        f"{Path(frame.filename).name}:{frame.lineno} {frame.name}"
        for frame in reversed(traceback.extract_tb(error.__traceback__))
    )


def fractional_of(output: Path, target: str) -> Path:
    """Where the probabilities of a slice wait for the SEG of its series, by the name of its mask."""
    return output / FOLDER / "fractional" / f"{target}.png"


def _sha256(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the file and its permissions") from error


def _small(picture: np.ndarray) -> np.ndarray:
    """A picture, (H, W) or (H, W, 3) in 0..1, as uint8 with its longest side at most 1,024."""
    grey = Image.fromarray((np.clip(picture, 0, 1) * 255).round().astype(np.uint8))
    grey.thumbnail((1024, 1024), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(grey)


def _small_mask(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    if mask.shape == shape:
        return mask
    grey = Image.fromarray(mask.astype(np.uint8) * 255).resize(shape[::-1], Image.Resampling.BILINEAR)
    return np.asarray(grey) >= 128
