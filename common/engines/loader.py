"""Batches made in a thread beside the training step, for data that lies on the GPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from monai.data import DataLoader
from monai.data import ThreadDataLoader as MonaiThreadDataLoader
from monai.data.thread_buffer import buffer_iterator

from common.errors import UserError


class ThreadDataLoader(MonaiThreadDataLoader):
    """MONAI's ``ThreadDataLoader``, but what goes wrong in the thread is raised where the batch is asked for.

    MONAI's ends the epoch there, as if the data were at their end.

    Args:
        options: as of ``monai.data.ThreadDataLoader``.

    Raises:
        UserError: there are worker processes, which cannot use data on the GPU.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        if workers := options.get("num_workers", 0):
            raise UserError(
                f"num_workers: is {workers}, but a thread beside the training makes the batches; leave it out or at 0"
            )
        super().__init__(*args, **options)

    def __iter__(self) -> Iterator[Any]:
        faults: list[BaseException] = []

        def batches() -> Iterator[Any]:
            try:
                yield from DataLoader.__iter__(self)
            except Exception as fault:
                faults.append(fault)

        yield from buffer_iterator(batches(), self.buffer_size, self.buffer_timeout, self.repeats)
        if faults:
            raise faults[0]
