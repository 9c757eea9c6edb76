"""The thread that makes batches: faults are not lost, and its randomness is that of a loader without one."""

import threading

import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.transforms import Compose, Lambdad, RandLambdad

from common.engines import SeedEachEpoch, ThreadDataLoader
from common.errors import UserError

from .test_records import trainer

ROWS = [{"image": torch.full((2,), float(n)), "label": torch.ones(1)} for n in range(12)]


def fault(image):
    if image[0] == 5:
        raise UserError("a.png: is no picture")
    return image


def test_a_fault_in_the_thread_is_raised():
    """MONAI's loader ends there, as if the data did."""
    data = Dataset(ROWS, Compose([Lambdad("image", fault)]))
    seen: list[float] = []
    with pytest.raises((UserError, RuntimeError), match=r"transform|a\.png"):
        seen.extend(batch["image"][0, 0].item() for batch in ThreadDataLoader(data, batch_size=2))
    assert seen == [0.0, 2.0]


def test_all_batches_in_their_order():
    for _ in range(2):
        assert [int(batch["image"][0, 0]) for batch in ThreadDataLoader(Dataset(ROWS), batch_size=2)] == [
            *range(0, 12, 2)
        ]


def test_worker_processes_are_refused():
    with pytest.raises(UserError, match=r"num_workers: is 2, but a thread .* leave it out or at 0"):
        ThreadDataLoader(Dataset(ROWS), batch_size=2, num_workers=2)


@pytest.mark.parametrize("steps", [3, 6, 9], ids=["part of the data", "the data", "one and a half times"])
def test_an_epoch_draws_as_without_a_thread(steps):
    """Also where a thread of the epoch before has drawn for batches that nobody asked for; and none is left over."""

    def draws(kind):
        torch.manual_seed(0)
        noise = RandLambdad("image", lambda image: image + noise.R.random_sample(), prob=0.9)
        loader = kind(Dataset(ROWS, Compose([noise])), batch_size=2, shuffle=True)
        seen = []
        engine = trainer([SeedEachEpoch(7)], epochs=3)
        engine.data_loader, engine.state.epoch_length = loader, steps

        def step(engine, batch):
            seen.append(batch["image"].clone())
            return {"loss": torch.rand(())}  # as dropout would

        engine._process_function = step
        engine.run()
        return torch.stack(seen)

    before = threading.active_count()
    assert torch.equal(draws(DataLoader), draws(ThreadDataLoader))
    assert threading.active_count() == before
