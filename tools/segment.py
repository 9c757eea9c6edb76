"""``python -m tools segment``: masks for a folder of images, of any size, with nothing lost."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from common.errors import UserError

DEFAULTS: dict[str, Any] = {
    "overlay": [], "set": [], "weights": None, "prompts": None, "text": None, "laterality": None, "no_prompt": "skip",
    "text_files": False, "reports": False, "include": [], "seg": "off", "secondary_capture": False,
    "no_overlays": False, "pseudonymise": None, "device": None, "batch_size": "auto", "workers": "auto", "threads": 0,
    "engine": "local", "backend": None, "dry_run": False, "watch": 0.0, "restart": False, "log": None,
}  # fmt: skip
CHOICES = {
    "laterality": ("patient", "image"), "no_prompt": ("skip", "default"), "seg": ("off", "binary", "fractional"),
    "engine": ("local", "ray"), "backend": ("torch", "torchscript", "onnx"),
}  # fmt: skip
_PATHS = ("input", "output", "prompts", "pseudonymise", "log")
SETTLED = 5.0  # seconds: with --watch, a file that changed since may still be being copied


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments; all may stand in the file of ``--config`` too."""

    def add(name: str, words: str, **keywords: Any) -> None:
        parser.add_argument(f"--{name}", help=words, default=argparse.SUPPRESS, **keywords)

    add("config", "YAML file with any of these options (input: scans, no-prompt: default, ...)", type=Path)
    add("bundle", "a bundle's folder or name, such as bundles/mmi_unet")
    add("overlay", "a configuration on top, such as demo", action="append")
    add("set", "another value of the configuration, such as text_checkpoint=encoders/cxr-bert (repeatable)",
        action="append", metavar="ID=VALUE")  # fmt: skip
    add("weights", "trained weights (default: the bundle's models/model.pt)")
    add("input", "folder of DICOM, PNG, JPEG, TIFF and NIfTI files, searched by content", type=Path)
    add("output", "folder for masks, overlays, DICOM SEG, results.csv and report.html", type=Path)
    add("prompts", "CSV: image, SOPInstanceUID, AccessionNumber or PatientID; text[,laterality]", type=Path)
    add("text-files", "a sentence may stand in a .txt beside its image", action="store_true")
    add("reports", "a sentence may stand in a DICOM SR of the image's study", action="store_true")
    add("text", "the sentence of every image that has no other")
    add("laterality", "whose left the sentences mean: the patient's (clinicians) or the picture's; required with "
        "sentences", choices=CHOICES["laterality"])  # fmt: skip
    add("no-prompt", "an image without a sentence that can be read: skip it (default), or use the default sentence, "
        "which asserts disease everywhere", choices=CHOICES["no_prompt"])  # fmt: skip
    add("include", "segment although: such as lateral (repeatable; --dry-run names the word of each refusal)",
        action="append")  # fmt: skip
    add("seg", "DICOM SEG of DICOM images: off (default), binary or fractional", choices=CHOICES["seg"])
    add("secondary-capture", "overlays of DICOM images as DICOM too", action="store_true")
    add("no-overlays", "write no overlays", action="store_true")
    add("pseudonymise", "file with a secret: identifiers become hashes keyed with it", type=Path, metavar="KEYFILE")
    add("device", "such as cpu or cuda:1 (default: a GPU if there is one)")
    add("batch-size", "images at a time in the network (default: auto)")
    add("workers", "processes that decode and write (default: auto; 0: none)")
    add("threads", "of the network on a CPU (default: torch's choice)", type=int)
    add("engine", "local (default), or ray: the cluster that Ray is connected to", choices=CHOICES["engine"])
    add("backend", "what computes: torch (default), or what tools export wrote beside the weights",
        choices=CHOICES["backend"])  # fmt: skip
    add("dry-run", "say what would be done, and write nothing", action="store_true")
    add("watch", "look for new files again and again, every so many seconds", type=float, metavar="SECONDS")
    add("restart", "forget what an earlier command left in the output folder", action="store_true")
    add("log", "append a log, one JSON object a line, without names and sentences", type=Path)


def main(args: argparse.Namespace) -> int:
    """Exit code: 0 all images segmented, 1 some refused, 2 nothing usable, 3 stopped."""
    options = merge(args)
    stopping = _Stopping()
    from common.batch.job import OutputLost
    from common.batch.log import write_log

    with stopping, write_log(options["log"]):
        try:
            return _run(options, stopping)
        except (OutputLost, KeyboardInterrupt) as error:
            print(f"stopped: {error}" if isinstance(error, OutputLost) else "stopped at once", file=sys.stderr)
            return 3


def merge(args: argparse.Namespace) -> dict[str, Any]:
    """Defaults, the file of ``--config`` over them, the command line over both.

    Raises:
        UserError: the file cannot be used, or something required is missing.
    """
    given = {key: value for key, value in vars(args).items() if key not in ("command", "debug", "config")}
    options = DEFAULTS | (_read(args.config) if "config" in args else {}) | given
    for key in ("bundle", "input", "output"):
        if not options.get(key):
            raise UserError(f"--{key} is not given; add it to the command or to the file of --config")
    for key in _PATHS:
        options[key] = Path(options[key]) if options.get(key) else None
    return options


def _read(path: Path) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give a YAML file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is no YAML ({' '.join(str(error).split())}); write lines 'option: value'") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: is no list of options; write lines 'option: value'")
    known = DEFAULTS.keys() | {"bundle", "input", "output"}
    options = {}
    for key, value in content.items():
        name = str(key).replace("-", "_")
        if name not in known:
            raise UserError(f"{path}: knows no option '{key}'; one of {', '.join(sorted(known)).replace('_', '-')}")
        options[name] = _value(path, str(key), name, value)
    return options


def _value(path: Path, key: str, name: str, value: Any) -> Any:
    """A value of the file, of the type that the command line gives."""
    if name == "seg" and value is False:
        value = "off"  # YAML 1.1 has it for a "no"
    if name in CHOICES and value not in CHOICES[name]:
        raise UserError(f"{path}: {key} is {value}; one of {', '.join(CHOICES[name])}")
    if name in ("overlay", "include", "set") and not isinstance(value, list):
        value = [value]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(DEFAULTS.get(name), bool):
        fits, wanted = isinstance(value, bool), "write true or false"
    elif name in ("threads", "watch", "batch_size", "workers"):
        fits, wanted = number or (value == "auto" and name in ("batch_size", "workers")), "write a number"
    elif name in ("overlay", "include", "set"):
        fits, wanted = all(isinstance(one, str) for one in value), "write words"
    else:
        fits, wanted = isinstance(value, str), "write it in quotes"
    if not fits:
        raise UserError(f"{path}: {key} is {value}; {wanted}")
    return value


def _run(options: dict[str, Any], stopping: _Stopping) -> int:
    from common.batch.prompts import Prompts
    from common.batch.run import Outcome, Run

    if not 0 <= float(options["watch"]) < threading.TIMEOUT_MAX:
        raise UserError(f"--watch {options['watch']}: is no number of seconds; write one, such as 60")
    settings = _settings(options, Prompts(options["prompts"], options["text"], options["laterality"],
                                          options["text_files"], options["reports"]))  # fmt: skip
    run = Run(settings, lambda line: print(f"note: {line}", file=sys.stderr), stopping)
    if options["dry_run"]:
        return dry_run(run)
    outcome: Outcome
    before = None
    while True:
        outcome = run.go(_bar, SETTLED if options["watch"] else 0.0)
        if outcome is not before:
            summary(outcome, settings.options.output)
        before = outcome
        if outcome.stopped or not options["watch"] or stopping.wait(options["watch"]):
            break
    if not outcome.counts["all"] and not outcome.stopped:
        raise UserError(f"{options['input']}: holds no image (DICOM, PNG, JPEG, TIFF, NIfTI); give another --input")
    return outcome.code


def _settings(options: dict[str, Any], prompts: Any) -> Any:
    """The settings of a run.

    Raises:
        UserError: an option that cannot be used.
    """
    from common.batch.job import Options
    from common.batch.naming import read_key
    from common.batch.run import Settings, weights_digest
    from common.bundle import bundle_folder, configuration_files
    from common.runtime.model import with_backend
    from tools.settings import settings

    if options["pseudonymise"] and (options["seg"] != "off" or options["secondary_capture"]):
        raise UserError("--pseudonymise: DICOM objects copy patient and study; leave out --seg and --secondary-capture")
    files = configuration_files(bundle_folder(options["bundle"]), ["inference", *options["overlay"]])
    given = settings(options["set"], files)
    if options["weights"]:
        given["weights"] = str(options["weights"])
    given = with_backend(bundle_folder(options["bundle"]), options["overlay"], options["backend"], given)
    override = tuple(given.items())
    return Settings(
        input=options["input"],
        options=Options(
            bundle=str(options["bundle"]), output=options["output"], overlays=tuple(options["overlay"]),
            override=override, no_prompt=options["no_prompt"], seg=options["seg"],
            pictures=not options["no_overlays"], secondary_capture=options["secondary_capture"],
            key=read_key(options["pseudonymise"]) if options["pseudonymise"] else None,
            weights_sha256=weights_digest(options["bundle"], options["overlay"], dict(override)),
        ),
        prompts=prompts, include=frozenset(options["include"]),
        batch_size=_count("batch-size", options["batch_size"], 1),
        workers=None if options["workers"] == "auto" else _count("workers", options["workers"], 0),
        device=options["device"], threads=_count("threads", options["threads"], 0), restart=options["restart"],
        engine=options["engine"],
    )  # fmt: skip


def _count(name: str, value: Any, least: int) -> int:
    if value == "auto":
        return 0
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = least - 1
    if number < least:
        raise UserError(f"--{name} {value}: is no number from {least}; write one, or auto")
    return number


def _bar(total: int, done: int) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, initial=done, desc="segmenting", unit="image", file=sys.stderr)


def summary(outcome: Any, output: Path) -> None:
    """Print what came of a run; no names, no sentences."""
    from common.batch.run import summary_of

    first, *more = summary_of(outcome.counts)
    print(first)
    for line in more:
        print(f"  {line}")
    if outcome.unused:
        print(f"note: {len(outcome.unused)} sentences belong to no image")
    if outcome.others:
        print(f"note: {outcome.others} other files were left out: they are no images")
    if outcome.stopped:
        print("stopped; the same command goes on where this one ended")
    for name in ("masks", "results.csv", "report.html"):
        print(f"{name:12}{output / name}")


def dry_run(run: Any) -> int:
    """Print what would be done; the exit code is that of a run in which all goes well."""
    from collections import Counter

    from common.batch.prompts import unreadable

    search = run.search()
    prompts = run.settings.prompts.assign(search.found)
    usable = [one for one in search.found if not one.refused]
    print(f"{len(usable)} of {len(search.found)} files would be segmented; {search.others} others are no images")
    for reason, number in Counter(one.refused for one in search.found if one.refused).most_common():
        print(f"  {number:6} refused: {reason}")
    for reason, number in Counter(one.overridden for one in usable if one.overridden).most_common():
        print(f"  {number:6} included although: {reason}")
    sources = Counter(prompts[one.name].source if prompts.get(one.name) else "none" for one in usable)
    for source, number in sources.most_common():
        print(f"  {number:6} sentences from: {source}")
    unread = sum(bool(prompt and unreadable(prompt, run.metadata["grammar"])) for prompt in prompts.values())
    if unread:
        print(f"  {unread:6} sentences cannot be read; python -m tools parse shows why")
    if not usable:
        return 2
    return 0 if len(usable) == len(search.found) else 1


class _Stopping:
    """Ctrl-C and SIGTERM end a run after the batches that are begun; a second one at once."""

    def __init__(self) -> None:
        self.event = threading.Event()

    def __call__(self) -> bool:
        return self.event.is_set()

    def wait(self, seconds: float) -> bool:
        return self.event.wait(seconds)

    def __enter__(self) -> _Stopping:
        self.before = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _stop(self, number: int, frame: Any) -> None:
        if self.event.is_set():
            raise KeyboardInterrupt
        print("\nstopping after the batches that are begun; once more stops at once", file=sys.stderr)
        self.event.set()
