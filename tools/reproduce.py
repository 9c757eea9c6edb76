"""``python -m tools reproduce``: a training once more, from its sidecar, and what came out compared."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from common.runtime.reproduce import Comparison


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of the training, or the path of a model.json")
    parser.add_argument("--data", required=True, type=Path, help="the data set's folder; its fingerprint is compared")
    parser.add_argument("--output", required=True, type=Path, help="folder to make for the new run")
    parser.add_argument("--bundle", help="name or folder (default: the one that the sidecar names)")
    parser.add_argument("--device", help="such as cpu or cuda:1 (default: as the run's configuration says)")
    for key, what in (("image", "picture"), ("text", "sentence")):
        parser.add_argument(
            f"--{key}-checkpoint", type=Path, metavar="FILE",
            help=f"where the weights lie now that the {what}'s encoder began with, such as those of a first stage",
        )  # fmt: skip
    parser.add_argument(
        "--tolerance", type=float, default=0.005,
        help="of the validation metric where the same bits are not to be expected: on another machine or version, on a "
        "GPU, or from files that are not known to be the run's (0.005)",
    )  # fmt: skip
    parser.add_argument("--any-commit", action="store_true", help="go on with the code of another commit")
    parser.add_argument(
        "--trust-config", action="store_true", help="run expressions of the sidecar that the bundle does not have"
    )


def main(args: argparse.Namespace) -> int:
    """Check, train, compare; exit code 0 if the run was reproduced, 1 if not."""
    from common.runtime import reproduce as again

    run = again.recorded(args.run)
    if not args.any_commit:
        again.check_commit(run)
    bundle = again.bundle_of(run, args.bundle)
    if not args.trust_config:
        again.check_code(run, bundle)
    given = {"image_checkpoint": args.image_checkpoint, "text_checkpoint": args.text_checkpoint}
    checkpoints = {key: path for key, path in given.items() if path is not None}
    config = again.prepared(run, bundle, args.data, args.output, args.device, checkpoints)
    again.check_data(run, config)
    for line in [*again.other_versions(run), *again.other_checkpoints(run, config)]:
        print(f"warning: {line}", file=sys.stderr)
    found = again.compare(run, again.train_again(run, bundle, config), args.tolerance)
    for name, text in _lines(found):
        print(f"{name:16}{text}")
    return 0 if found.reproduced else 1


def _lines(found: Comparison) -> list[tuple[str, str]]:
    then, now = found.then.sidecar, found.now.sidecar
    lines = [(key, f"{then.get(key, 'not recorded')} then, {now[key]} now") for key in ("commit", "device", "threads")]
    change = found.now.value - found.then.value
    lines.append((then["metric"], f"{found.then.value:.6f} then, {found.now.value:.6f} now ({change:+.6f})"))
    lines.append(("best epoch", f"{then['epoch']} then, {now['epoch']} now"))
    if (weights := found.weights) is None:
        lines.append(("weights", "of then are not there"))
    elif weights.largest == 0:
        lines.append(("weights", f"identical: {weights.numbers:,} numbers, compared in {weights.precision}"))
    else:
        lines.append(("weights", f"largest difference {weights.largest:.3g}, in {weights.key}"))
    if found.rows is None:
        lines.append(("history.csv", "of then is not there"))
    else:
        lines.append(("history.csv", f"{found.rows[0]} of {found.rows[1]} epochs are the same"))
    if found.first_other is not None:
        epoch, column, before, after = found.first_other
        lines.append(("first other", f"epoch {epoch}, {column}: {before} then, {after} now"))
    if found.identical:
        verdict = "identical"
    elif found.exact:
        verdict = "not reproduced: the same commit, versions and kind of machine should give the same bits"
    else:
        within = "within" if found.reproduced else "not within"
        verdict = f"{'' if found.reproduced else 'not '}reproduced: {then['metric']} is {within} {found.tolerance:g}"
    return [*lines, ("verdict", verdict)]
