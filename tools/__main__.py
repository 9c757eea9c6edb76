"""``python -m tools COMMAND`` or ``chest-refseg COMMAND``: parse arguments, call ``common``, print."""

from __future__ import annotations

import argparse
import importlib
import os
import select
import signal
import sys

from common import __version__
from common.errors import user_error

# command -> (module, one line). A module is imported only when its command runs, so that `--help` is quick.
# Each module has `arguments(parser)` and `main(args) -> int | None` (the exit code).
COMMANDS = {
    "phantoms": ("tools.phantoms", "write phantom chest radiographs with lesions, masks and sentences"),
    "check-data": ("tools.check_data", "check a data set: pairs, sizes, masks, sentences, sides"),
    "parse": ("tools.parse", "show what is understood of a sentence"),
    "evaluate": ("tools.evaluate", "score a bundle on a data set"),
    "segment": ("tools.segment", "segment a folder of images"),
    "orthanc": ("tools.orthanc", "segment what an Orthanc receives and store the masks beside it"),
    "label-server": ("tools.label_server", "open bundles in MONAI Label, for 3D Slicer and OHIF"),
    "label-check": ("tools.label_check", "prove label-server with a real Orthanc on this machine, on phantoms"),
    "measure-verdict": ("tools.measure_verdict", "how often the safety verdict is right, at true masks and sentences"),
    "measure-prior": ("tools.measure_prior", "score the position words alone: no image, no network"),
    "bench-report": ("tools.bench_report", "time a report of many rows in headless Chromium"),
    "export": ("tools.export", "write a bundle's network as TorchScript, ONNX and .pt2, proved to compute the same"),
    "package": ("tools.package", "write a bundle, its weights, wheel, licences and lock as one archive"),
    "bench-backends": ("tools.bench_backends", "time PyTorch, TorchScript and ONNX Runtime on a bundle"),
    "explain": ("tools.explain", "show what a bundle makes of an image and a sentence, word by word"),
    "compare": ("tools.compare", "show masks of several bundles side by side, as one picture"),
    "curves": ("tools.curves", "draw the loss terms and scores of training runs"),
    "benchmark": ("tools.benchmark", "train and score what a protocol asks for, and write its tables"),
    "train-all": ("tools.train_all", "the most valuable trainings of protocols first, for so many minutes"),
    "numbers": ("tools.numbers", "put the scores of evaluations into README or a model card"),
    "sync-bundles": ("tools.sync_bundles", "write what all bundles share into each of them"),
    "new-bundle": ("tools.new_bundle", "begin a new method: a bundle that trains as it is"),
    "train-text-encoder": ("tools.train_text_encoder", "train the compact text encoder from generated sentences"),
    "fetch-weights": ("tools.fetch_weights", "put trained weights into the bundles, from a folder and checked"),
    "small-weights": ("tools.small_weights", "make the small weights of a bundle that are in git, in half precision"),
    "reproduce": ("tools.reproduce", "train a run again from its sidecar and compare"),
    "convert-checkpoint": ("tools.convert_checkpoint", "check a published encoder and prepare it for offline use"),
    "bench-kan": ("tools.bench_kan", "time and memory of the KAN layer, against the recursion and a linear layer"),
    "bench-segment": ("tools.bench_segment", "measure what segment costs beside the network, against MONAI's own"),
    "demo": ("tools.demo", "train, evaluate and run the demonstration on phantoms or real images"),
}


def main(argv: list[str] | None = None) -> int:
    """Run one command; a fault of the user is one line on stderr and exit code 2."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(
        prog="chest-refseg", description="Text-guided segmentation of chest images. Research use only."
    )
    parser.add_argument("--version", action="version", version=f"chest-refseg {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    wanted = next((a for a in argv if not a.startswith("-")), None)
    for name, (module, line) in COMMANDS.items():
        sub = commands.add_parser(name, help=line, description=line[0].upper() + line[1:] + ".")
        if name == wanted:
            importlib.import_module(module).arguments(sub)
    args = parser.parse_args(argv)
    if args.debug:
        os.environ["CHEST_REFSEG_DEBUG"] = "1"
    try:
        code = importlib.import_module(COMMANDS[args.command][0]).main(args) or 0
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        if not _reader_gone():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python tries once more at its end
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except Exception as error:
        found = user_error(error)
        if found is None or args.debug:
            raise
        print(f"error: {found}", file=sys.stderr)
        return 2


def _reader_gone() -> bool:
    """Whether what is printed goes into a pipe that nobody reads any more, as after ``| head``."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
    except (OSError, ValueError):  # no file
        return False
    return any(event & select.POLLERR for _, event in poll.poll(0))


if __name__ == "__main__":
    sys.exit(main())
