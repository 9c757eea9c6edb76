"""Speed and waiting, by a clock that only loaders and steps move."""

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader
from monai.engines import SupervisedTrainer

from common.engines import MeanTeacherTrainer, Throughput, throughput
from common.losses import SemiMedRefLoss

from .test_mean_teacher import Schedule, Tiny, rows


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 0.0

        def perf_counter(self):
            return self.now

    found = Clock()
    monkeypatch.setattr(throughput, "time", found)
    return found


class Slow(DataLoader):
    """Each batch takes so many seconds of a clock."""

    def __init__(self, dataset, clock, seconds, **options):
        super().__init__(dataset, **options)
        self.clock, self.seconds = clock, seconds

    def __iter__(self):
        for batch in super().__iter__():
            self.clock.now += self.seconds
            yield batch


def passing(clock, seconds):
    """A handler in which time passes."""

    def handler(engine):
        clock.now += seconds(engine) if callable(seconds) else seconds

    return handler


def supervised(clock, handler, items=8, epochs=2, step=3.0):
    network = torch.nn.Linear(2, 1)
    data = [{"image": torch.ones(2), "label": torch.ones(1)}] * items
    engine = SupervisedTrainer(
        torch.device("cpu"), epochs, Slow(data, clock, 1.0, batch_size=2), network,
        torch.optim.SGD(network.parameters(), lr=0.1), torch.nn.MSELoss(), decollate=False,
    )  # fmt: skip
    engine.add_event_handler(Events.ITERATION_COMPLETED, passing(clock, step))
    handler.attach(engine)
    engine.found = []
    # validation, which is no part of it
    engine.add_event_handler(Events.EPOCH_COMPLETED, passing(clock, 100.0))
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e: e.found.append(dict(e.state.metrics)))
    return engine


def test_images_a_second_and_the_share_of_waiting(clock):
    """Two images a step of 4 seconds, one of them for the batch; nothing of the validation."""
    engine = supervised(clock, Throughput(warm_up=0))
    engine.run()
    assert engine.found == [{"images_per_second": 0.5, "data_share": 0.25}] * 2


@pytest.mark.parametrize(("warm_up", "slow"), [(1, 1), (10, 2)])
def test_the_first_steps_of_a_program_do_not_count(clock, warm_up, slow):
    """But half an epoch of four steps always does."""
    engine = supervised(clock, Throughput(warm_up), step=lambda e: 50.0 if e.state.iteration <= slow else 3.0)
    engine.run()
    assert engine.found[0] == {"images_per_second": 0.5, "data_share": 0.25}
    if warm_up == 1:
        assert engine.found[1] == engine.found[0]


def test_an_epoch_of_one_step_counts(clock):
    engine = supervised(clock, Throughput(), items=2)
    engine.run()
    assert engine.found[0] == {"images_per_second": 0.5, "data_share": 0.25}


def test_a_further_pass_of_the_loader_is_waiting(clock):
    """An epoch longer than the data: Ignite asks once for the batch, and iterates anew before it is there."""
    engine = supervised(clock, Throughput(warm_up=0))
    engine.state.epoch_length = 6
    engine.run()
    assert engine.found[0] == {"images_per_second": 0.5, "data_share": 0.25}


def test_unlabelled_images_and_waiting_for_them_count(clock):
    """2 labelled and, with weight, 2 unlabelled images; a batch of these takes twice as long."""
    torch.manual_seed(0)
    network = Tiny()
    loss = SemiMedRefLoss(burn_in=1, ramp=0, align_weight=0, align_unlabelled_weight=0)
    found = []
    engine = MeanTeacherTrainer(
        unlabelled=Slow(rows(6, False), clock, 2.0, batch_size=2), tokenizer="compact", device=torch.device("cpu"),
        max_epochs=2, train_data_loader=Slow(rows(6, True), clock, 1.0, batch_size=2), network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1), loss_function=loss, decollate=False,
        train_handlers=[Schedule(), Throughput(warm_up=0)],
    )  # fmt: skip
    engine.add_event_handler(Events.ITERATION_STARTED, passing(clock, 1.0))
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e: found.append(dict(e.state.metrics)))
    engine.run()
    assert found == [{"images_per_second": 1.0, "data_share": 0.5}, {"images_per_second": 1.0, "data_share": 0.75}]


class Event:
    """Of a GPU's queue: its moment is known only after it was waited for."""

    waited = 0

    def __init__(self, enable_timing):
        assert enable_timing
        self.moment = None

    def record(self, stream):
        self.moment = stream.now

    def synchronize(self):
        type(self).waited += 1

    def elapsed_time(self, other):
        assert self.waited
        return 1000 * (other.moment - self.moment)


def test_a_gpu_is_waited_for_once_an_epoch(clock, monkeypatch):
    """By stand-ins for CUDA's events: the queue's clock is read, and the host's is not."""
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: clock)
    monkeypatch.setattr(clock, "perf_counter", None, raising=False)
    engine = supervised(clock, handler := Throughput(warm_up=1))
    monkeypatch.setattr(handler, "_now", lambda e: throughput.Throughput._now(on_gpu))
    on_gpu = type("Engine", (), {"state": type("State", (), {"device": torch.device("cuda")})})
    engine.run()
    assert engine.found == [{"images_per_second": 0.5, "data_share": 0.25}] * 2
    assert Event.waited == 2
