"""The loader of unlabelled images: a weak and a strong view of each, and its sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch.distributed as dist
from monai.data import CacheDataset, DataLoader, Dataset, DistributedSampler
from monai.transforms import Compose, CopyItemsd

VIEW = "strong"


def unlabelled_loader(
    data: Sequence[Mapping[str, Any]],
    deterministic: Sequence[Callable],
    weak: Sequence[Callable],
    strong: Sequence[Callable],
    final: Sequence[Callable],
    batch_size: int,
    num_workers: int = 0,
    cache: bool = True,
    seed: int = 0,
    loader: type[DataLoader] = DataLoader,
) -> DataLoader | None:
    """Batches of ``image`` (the weak view) and ``strong``, (B, C, H, W), with their sentences and ids.

    Args:
        data: rows without ``label``; with none there is no loader.
        deterministic: transforms before all random ones.
        weak: random transforms of ``image``.
        strong: of its copy ``strong``.
        final: of both, the tokeniser last.
        batch_size: unlabelled images a step (and process).
        num_workers: of the loader.
        cache: keep the results of ``deterministic``; for a loader of which only the length is wanted it would be waste.
        seed: of the order, where there are several processes; else the order is that of torch's generator.
        loader: what makes the batches.

    Returns:
        The loader, shuffled; each process gets its part of the rows where there are several. Fewer rows than a batch
        make one smaller batch.
    """
    if not data:
        return None
    views = [CopyItemsd("image", names=VIEW)]
    transform = Compose([*deterministic, *weak, *views, *strong, *final])
    dataset = CacheDataset(data, transform, num_workers=2, progress=False) if cache else Dataset(data, transform)
    several = dist.is_available() and dist.is_initialized()
    sampler = DistributedSampler(dataset, even_divisible=True, shuffle=True, seed=seed) if several else None
    return loader(
        dataset,
        batch_size=batch_size,
        shuffle=sampler is None,
        sampler=sampler,
        num_workers=num_workers,
        drop_last=len(sampler or dataset) >= batch_size,
    )
