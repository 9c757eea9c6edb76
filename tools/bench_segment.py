"""``python -m tools bench-segment``: what folder inference costs beside the network, against MONAI's own.

The same files, the same network and weights, one after the other in one process; times are without start-up (imports,
weights, worker processes).
"""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--bundle", required=True, help="a bundle's folder or name")
    parser.add_argument("--overlay", action="append", default=[], help="a configuration on top, such as demo")
    parser.add_argument("--images", type=int, default=96, help="PNG images of 224 x 224 (96)")
    parser.add_argument("--large", type=int, default=8, help="DICOM DX images of 3000 x 2500 (8)")
    parser.add_argument("--batch-size", type=int, default=8, help="of both (8)")
    parser.add_argument("--workers", type=int, default=1, help="of both (1)")


def main(args: argparse.Namespace) -> None:
    """Print seconds per image, overheads, and their ratio."""
    import torch

    from common.bundle import bundle_folder
    from common.runtime.model import Model

    with TemporaryDirectory() as folder:
        root = Path(folder)
        weights = root / "model.pt"
        torch.manual_seed(0)
        # weights do not change what a network costs
        torch.save(_untrained(args).state_dict(), weights)
        model = Model(bundle_folder(args.bundle), args.overlay, weights=str(weights))
        print(f"device {model.device}, {torch.get_num_threads()} threads, batches of {args.batch_size}, "
              f"{args.workers} workers, network size {tuple(model.parser['image_size'])}")  # fmt: skip
        small = _small(root / "small", args.images)
        network = _network(model, small, args.batch_size)
        theirs = _monai(args, root, weights)
        ours = _ours(args, root, model, weights, small)
        print(f"{args.images} PNG of 224 x 224, masks and tables written; milliseconds an image")
        print(f"  network alone                  {1e3 * network:9.1f}")
        for name, total in (("monai.bundle run inferring", theirs), ("tools segment", ours)):
            print(f"  {name:30} {1e3 * total:9.1f}   overhead {1e3 * (total - network):8.1f}   "
                  f"throughput {network / total:.0%} of the network alone")  # fmt: skip
        print(f"  overhead, ours : MONAI's       {(ours - network) / (theirs - network):9.2f}")
        if args.large:
            _shares(args, root, model, weights)


def _untrained(args: argparse.Namespace) -> Any:
    from common.bundle import bundle_folder
    from common.runtime.model import Processing

    return Processing(bundle_folder(args.bundle), args.overlay).parser.get_parsed_content("network_def")


def _small(folder: Path, count: int) -> list[Path]:
    from PIL import Image

    from common.datasets import phantoms

    folder.mkdir()
    paths = [folder / f"{number:05d}.png" for number in range(count)]
    for number, path in enumerate(paths):
        Image.fromarray(phantoms.draw(number, 224, 0).image).save(path)
    return paths


def _network(model: Any, paths: list[Path], size: int) -> float:
    """Seconds an image of the network alone, on what is prepared beforehand."""
    prepared = [{key: data[key] for key in ("image", "text") if key in data} for data in map(model.prepare, paths)]
    batches = [prepared[i : i + size] for i in range(0, len(prepared), size)]
    model.logits(batches[0])
    start = time.perf_counter()
    for batch in batches:
        model.logits(batch)
    return (time.perf_counter() - start) / len(paths)


def _monai(args: argparse.Namespace, root: Path, weights: Path) -> float:
    from monai.bundle import ConfigWorkflow

    from common.bundle import bundle_folder, configuration_files

    folder = bundle_folder(args.bundle)
    flow = ConfigWorkflow(
        configuration_files(folder, ["inference", *args.overlay]), str(folder / "configs" / "metadata.json"),
        logging_file=False, workflow_type="infer", bundle_root=str(folder), weights=str(weights),
        dataset_dir=str(root / "small"), output_dir=str(root / "monai"), batch_size=args.batch_size,
        num_workers=args.workers, **{"evaluator::val_handlers": None},
    )  # fmt: skip
    flow.initialize()
    logging.getLogger("monai.data.image_writer").setLevel(logging.WARNING)
    flow.parser.get_parsed_content("network").eval()
    evaluator = flow.parser.get_parsed_content("evaluator")
    start = time.perf_counter()
    evaluator.run()
    return (time.perf_counter() - start) / args.images


def _ours(args: argparse.Namespace, root: Path, model: Any, weights: Path, paths: list[Path]) -> float:
    """Seconds an image of batches, journal and tables, by the same parts as ``tools segment``."""
    from common.batch.engine import Engine
    from common.batch.pool import Pool

    pool = Pool(_options(args, root / "ours", weights), args.workers, lambda arguments, reason: None)
    try:
        return _run(Engine(model, pool), root / "ours", paths, args.batch_size)[0]
    finally:
        pool.close()


def _options(args: argparse.Namespace, output: Path, weights: Path, pictures: bool = False) -> Any:
    from common.batch.job import Options

    return Options(
        args.bundle, output, tuple(args.overlay), (("weights", str(weights)),), no_prompt="default", pictures=pictures
    )


def _run(engine: Any, output: Path, paths: list[Path], size: int) -> tuple[float, list[dict[str, float]]]:
    from common.batch.engine import Batch
    from common.batch.job import Job
    from common.batch.results import write_tables
    from common.batch.store import Entry, Store

    jobs = [Job(path, path.name, f"{path.name}.png", {"source": path.name, "format": path.suffix}) for path in paths]
    # worker processes have started, and have read a first image, before the clock runs
    first = [task for job in jobs[: 2 * size] for task in [engine.pool.submit("prepare", job)]]
    engine.pool.collect(first)
    store = Store(output)
    store.plan([Entry(job.name, 0, 0, job.target, False) for job in jobs], size)
    seconds = []
    start = time.perf_counter()
    for done in engine.run(Batch(i, jobs[i * size : (i + 1) * size], []) for i in range(-(-len(jobs) // size))):
        store.finish(done.batch.number, done.rows, done.seconds)
        seconds += done.seconds
    write_tables(store.rows(), output)
    total = (time.perf_counter() - start) / len(paths)
    store.close()
    return total, seconds


def _shares(args: argparse.Namespace, root: Path, model: Any, weights: Path) -> None:
    import numpy as np
    from PIL import Image

    from common.batch.engine import Engine
    from common.batch.pool import Pool
    from common.datasets import phantoms
    from common.images import write_radiograph

    folder = root / "large"
    folder.mkdir()
    paths = [folder / f"{number:03d}.dcm" for number in range(args.large)]
    for number, path in enumerate(paths):
        picture = Image.fromarray(phantoms.draw(number, 224, 0).image).resize((2500, 3000), Image.Resampling.BICUBIC)
        write_radiograph(path, np.asarray(picture).astype(np.uint16) * 16)
    pool = Pool(_options(args, root / "dx", weights, pictures=True), args.workers, lambda arguments, reason: None)
    try:
        total, seconds = _run(Engine(model, pool), root / "dx", paths, args.batch_size)
    finally:
        pool.close()
    steps = {name: float(np.mean([row[name] for row in seconds])) for name in ("decode", "network", "write")}
    print(f"{args.large} DX of 3000 x 2500, masks and overlays written: {total:.2f} s an image; shares of the work")
    for name, value in steps.items():
        print(f"  {name:30} {1e3 * value:9.1f} ms {value / sum(steps.values()):7.0%}")
