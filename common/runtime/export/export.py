"""Write a bundle's network in each format, measure that the files compute the same, and say so in a sidecar."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from common.datasets import phantoms
from common.errors import UserError
from common.files import sha256_of, write_text
from common.networks.base import TextNetwork
from common.prompts.captions import canonical_captions
from common.prompts.tokenizer import Tokenizer
from common.runtime.backends import (
    FACTS,
    INFERENCE,
    METADATA,
    TOKENIZER,
    is_exported,
    not_listed,
    open_exported,
)
from common.runtime.export.facts import facts_of, inference_of, tokenizer_of
from common.runtime.export.formats import FORMATS, Exporter
from common.runtime.export.network import tensors
from common.runtime.export.parity import measure
from common.runtime.export.table import TableNetwork
from common.runtime.model import Model

SIDECAR = ".export.json"


def export(
    model: Model,
    output: Path | None = None,
    formats: Sequence[str] = FORMATS,
    table: bool = False,
    said: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Write ``model.ts``, ``model.onnx``, ``model.pt2`` and ``model.export.json``; of a table, ``model_table.…``.

    Args:
        model: a trained bundle, on the CPU.
        output: the folder; None takes that of the weights, where ``--backend`` looks.
        formats: of :data:`FORMATS`.
        table: with a table of all canonical captions in the place of the text encoder.
        said: called with a line for each file.

    Returns:
        The sidecar's content: the facts and ``files``, of each size, SHA-256 and parity.

    Raises:
        UserError: a file that does not compute the same, or holds what it must not; it is not kept.
    """
    if is_exported(model.weights):
        raise UserError(f"{model.weights}: is exported already; give the weights that training wrote as --weights")
    facts = facts_of(model)
    network: Any = model.network
    text = isinstance(network, TextNetwork)
    size = facts["image"]["size"]
    channels = facts["inputs"]["image"]["shape"][1]
    tokenizer = tokenizer_of(model)
    sentences: list[list[int]] = []
    listed: list[list[int]] = []
    if table:
        if not text:
            raise UserError("--prompts table: the bundle takes no sentence; leave the option out")
        if facts["sentence"]["captions"] != "canonical":
            raise UserError("--prompts table: the bundle takes sentences as written, a table holds canonical ones")
        captions = canonical_captions(model.grammar)
        listed = [tokenizer.ids(caption) for caption in captions]
        facts["sentence"]["table"] = list(captions)
        network = TableNetwork(network, listed)
    if text:
        sentences = _five_of(listed) if table else _five(tokenizer, facts)
    generator = torch.Generator().manual_seed(0)
    example: tuple[torch.Tensor, ...] = (torch.randn(2, channels, *size, generator=generator),)
    if text:
        default = model.network.default_text
        example = (*example, default.expand(2, -1).clone())
    exporter = Exporter(network, example, model.network.default_text if text else None,
                        facts["inputs"]["text"]["longest"] if text else 0)  # fmt: skip
    images = _images(model, channels, size)
    inside = {
        FACTS: json.dumps(facts, ensure_ascii=False),
        METADATA: json.dumps(model.metadata, ensure_ascii=False),
        INFERENCE: json.dumps(inference_of(model), ensure_ascii=False),
    }
    if text:
        inside[TOKENIZER] = tokenizer.to_json()
    folder = model.weights.parent if output is None else output
    stem = model.weights.stem + ("_table" if table else "")
    files = {}
    for kind in formats:
        start = time.perf_counter()
        path = folder / f"{stem}.{kind}"
        exporter.write(kind, path, inside)
        try:
            call = _opened(path)
            parity = measure(path.name, model.network, call, images, sentences, facts["threshold"], kind == "ts")
            if table:
                _check_refusal(path, call, images, listed, facts)
        except UserError:
            path.unlink()
            raise
        files[path.name] = {"bytes": path.stat().st_size, "sha256": sha256_of(path), "parity": parity}
        said(
            f"{path}: {path.stat().st_size / 1e6:.1f} MB, largest difference of a logit "
            f"{parity['largest difference of a logit']:.1e} (allowed {parity['tolerance']:.1e}), "
            f"{time.perf_counter() - start:.0f} s"
        )
    kept = {name.removeprefix("network.") if table else name for name in exporter.kept}
    removed = sorted(name for name, _ in tensors(model.network) if name not in kept)
    sidecar = {**facts, "files": files, "left out of the trained network": removed}
    if text and not table:
        sidecar["tokenizer"] = json.loads(inside[TOKENIZER])
    write_text(folder / f"{stem}{SIDECAR}", json.dumps(sidecar, indent=4, ensure_ascii=False) + "\n")
    return sidecar


def _opened(path: Path) -> Callable[..., torch.Tensor]:
    """What a file computes, by the library it is for."""
    if path.suffix == ".pt2":
        return torch.export.load(str(path)).module()
    opened = open_exported(path)
    # below the checks of the runtime, which refuse sentences that are not in the table
    return lambda image, text=None: opened.compute(image, text)


def _five(tokenizer: Tokenizer, facts: dict[str, Any]) -> list[list[int]]:
    """Sentences of five lengths: empty, one side, the other, the default one, as long as the encoder takes."""
    words = facts["sentence"]["default_ids"]
    longest = facts["inputs"]["text"]["longest"]
    inner = words[1:-1]
    most = [words[0], *(inner * (longest // len(inner) + 1))[: longest - 2], words[-1]]
    captions = canonical_captions(facts["sentence"]["grammar"])
    one, other = captions[2], captions[-5]
    return [tokenizer.ids(""), tokenizer.ids(one), tokenizer.ids(other), words, most]


def _five_of(listed: list[list[int]]) -> list[list[int]]:
    """Of a table the shortest sentence, the longest, and three between."""
    by_length = sorted(listed, key=len)
    return [by_length[round(place * (len(by_length) - 1) / 4)] for place in range(5)]


def _images(model: Model, channels: int, size: list[int]) -> torch.Tensor:
    """Three images (3, C, H, W): a phantom through the bundle's own transforms, a smooth and a rough one."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "phantom.png"
        picture = phantoms.draw(3, size=max(64, *size), seed=7).image
        Image.fromarray(picture).save(path)
        image = model.prepare(path)["image"]
    plain = torch.as_tensor(image.numpy())[None].expand(-1, channels, -1, -1)
    generator = torch.Generator().manual_seed(1)
    rough = torch.randn(1, channels, *size, generator=generator)
    coarse = torch.randn(1, channels, 5, 7, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size, mode="bilinear")
    return torch.cat([plain, smooth, rough])


def _check_refusal(
    path: Path, call: Callable[..., torch.Tensor], images: torch.Tensor, listed: list[list[int]], facts: dict[str, Any]
) -> None:
    """A sentence that the table does not hold gives no mask, and leaves its neighbour's alone."""
    known = listed[0]
    strange = [*known[:-1], *known[1:]]  # said twice
    rows = torch.tensor([[*ids, *[0] * (len(strange) - len(ids))] for ids in (known, strange)])
    with torch.no_grad():
        logits = call(images[:2], rows)
    if not logits[1].isnan().all() or logits[0].isnan().any():
        raise UserError(f"{path}: gives a mask for a sentence that its table does not hold; {not_listed(path, facts)}")
