"""What all bundles share: `mmi_unet` is the template; the others differ from it only where the list here allows.

``evaluate.json``, ``gpu.json``, ``multi_gpu_train.json``, ``logging.conf`` and ``LICENSE`` are the same bytes in all
bundles. ``train.json`` and ``inference.json`` are the template's but for the ids in :data:`ALLOWED`.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.bundle import BUNDLES
from common.errors import UserError
from common.runtime.large_files import LIST, text_of

TEMPLATE = "mmi_unet"
SAME_FILES = (
    "configs/evaluate.json", "configs/gpu.json", "configs/multi_gpu_train.json", "configs/logging.conf", "LICENSE",
)  # fmt: skip
SHARED_CONFIGS = ("train", "inference")
# ids under which a bundle may say something of its own
ALLOWED = (
    "bundle_root", "network_def", "loss", "optimizer", "lr_scheduler", "image_size", "batch_size", "learning_rate",
    "text_learning_rate", "image_learning_rate", "cosine_epochs", "max_epochs", "patience", "max_norm", "grammar",
    "captions", "text_checkpoint", "image_checkpoint", "teacher_decay", "normalization", "train::random_transforms",
    "train::trainer", "train::inferer",
)  # fmt: skip


def write_json(path: Path, content: Any) -> None:
    """As every configuration is written: indent 4, a newline at the end."""
    path.write_text(json.dumps(content, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")


def _leaves(item: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """(id, value) of everything that is no dictionary or list; allowed ids are one leaf."""
    if name in ALLOWED or not isinstance(item, dict | list) or not item:
        yield name, item
        return
    for key, value in item.items() if isinstance(item, dict) else enumerate(item):
        yield from _leaves(value, f"{name}::{key}" if name else str(key))


def differences(bundle: Path, template: Path | None = None) -> list[str]:
    """Where a bundle differs from the template though it should not, a line each."""
    template = template or BUNDLES / TEMPLATE
    found = [
        f"{n}: other bytes" if (bundle / n).exists() else f"{n}: is missing"
        for n in SAME_FILES
        if not (bundle / n).exists() or (bundle / n).read_bytes() != (template / n).read_bytes()
    ]
    for name in SHARED_CONFIGS:
        own, other = (
            dict(_leaves(json.loads((folder / "configs" / f"{name}.json").read_text(encoding="utf-8"))))
            for folder in (bundle, template)
        )
        found.extend(
            f"configs/{name}.json {key}: {own.get(key)!r}, in {template.name} {other.get(key)!r}"
            for key in sorted(own.keys() | other.keys())
            if key not in ALLOWED and own.get(key) != other.get(key)
        )
    return found


def sync(bundle: Path, template: Path | None = None) -> list[str]:
    """Write the shared parts into a bundle; returns what differed."""
    template = template or BUNDLES / TEMPLATE
    found = differences(bundle, template)
    for name in SAME_FILES:
        shutil.copyfile(template / name, bundle / name)
    for name in SHARED_CONFIGS:
        path = bundle / "configs" / f"{name}.json"
        own = json.loads(path.read_text(encoding="utf-8"))
        merged = json.loads((template / "configs" / f"{name}.json").read_text(encoding="utf-8"))
        for key in ALLOWED:
            *parents, last = key.split("::")
            source, target = own, merged
            for parent in parents:
                source, target = source.get(parent, {}), target.get(parent, {})
            if last in source:
                target[last] = source[last]
        write_json(path, merged)
    return found


def new_bundle(name: str, template: Path | None = None) -> Path:
    """A bundle that is the template under another name, to be changed where :data:`ALLOWED` says.

    Raises:
        UserError: the name is no identifier, means something to MONAI Label, or is taken.
    """
    template = template or BUNDLES / TEMPLATE
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UserError(f"{name}: a bundle's name has small letters, digits and underscores and starts with a letter")
    for word in ("detection", "classification", "deepgrow", "deepedit"):
        if word in name:
            raise UserError(f"{name}: MONAI Label takes a name with '{word}' for another kind of model; choose another")
    bundle = template.parent / name
    if bundle.exists():
        raise UserError(f"{bundle}: is there already; choose another name")
    shutil.copytree(template, bundle, ignore=shutil.ignore_patterns("models", "runs", "eval", "*.pt"))
    (bundle / "models").mkdir()
    (bundle / "models" / ".gitkeep").touch()
    (bundle / LIST).write_text(text_of([]), encoding="utf-8")  # it has no weights yet
    for path in sorted((bundle / "configs").glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        if "bundle_root" in content:
            content["bundle_root"] = f"$_root('{name}')"
        if path.name == "metadata.json":
            content |= {"name": name, "version": "0.1.0", "changelog": {"0.1.0": "Initial version"}, "eval_metrics": {}}
            content["description"] = f"{name}: a copy of {template.name}, not described yet"
        write_json(path, content)
    card = bundle / "docs" / "README.md"
    text = card.read_text(encoding="utf-8")
    about = (
        f"{name}: a copy of the template {template.name}, not described yet. What this card says of the network, its\n"
        f"training and its paper is the template's."
    )
    numbers = f"<!-- numbers:{name} -->\nNot measured yet.\n<!-- /numbers -->"
    text = re.sub(r"(?<=# Model Overview\n\n).*?(?=\n\n)", about, text, count=1, flags=re.DOTALL)
    text = re.sub(r"<!-- numbers:.*?<!-- /numbers -->", numbers, text, flags=re.DOTALL)
    card.write_text(text.replace(f"bundles/{template.name}", f"bundles/{name}"), encoding="utf-8")
    return bundle
