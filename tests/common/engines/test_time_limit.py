"""A training that ends for lack of time goes on as if nothing had happened."""

import csv
import logging
import time

import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigWorkflow
from monai.data import DataLoader
from monai.engines import SupervisedTrainer

from common.datasets import phantoms
from common.engines import LastCheckpoint, SeedEachEpoch, TimeLimit, stop

from .resume_driver import CONFIGS
from .test_resume import differences, history


class Clock:
    """Moved by hand."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now

    def time(self):
        return 1e9 + self.now


@pytest.fixture
def clock(monkeypatch):
    found = Clock()
    monkeypatch.setattr(stop, "time", found)
    return found


class Random(torch.utils.data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        return {"image": torch.rand(2), "label": torch.ones(1)}


def trainer(folder, clock, limit, *, resume=False, epochs=5, slow_steps=(), validation=2.0, order=-1):
    """Four steps of a second each; in `slow_steps` a hundred."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1))
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    last = LastCheckpoint(folder / "last.pt", {"network": network, "optimizer": optimizer}, {"a": 1}, resume=resume)
    handlers = [SeedEachEpoch(0), last]
    handlers.insert(len(handlers) if order < 0 else order, limit)
    engine = SupervisedTrainer(
        torch.device("cpu"), epochs, DataLoader(Random(), batch_size=2, shuffle=True), network, optimizer,
        torch.nn.MSELoss(), decollate=False,
    )  # fmt: skip

    def step(engine):
        clock.now += 100.0 if engine.state.iteration in slow_steps else 1.0

    def validate(engine):
        clock.now += validation

    engine.add_event_handler(Events.ITERATION_COMPLETED, step)
    engine.add_event_handler(Events.EPOCH_COMPLETED, validate)
    for handler in handlers:
        handler.attach(engine)
    return engine, network


def saved(folder):
    return torch.load(folder / "last.pt", weights_only=True)["_run"]


@pytest.mark.parametrize("order", [0, -1])
@pytest.mark.parametrize(("seconds", "epochs"), [(6, 1), (11.9, 1), (12, 2), (29, 4), (30, 5), (1000, 5)])
def test_an_epoch_that_would_not_fit_is_not_begun(tmp_path, clock, seconds, epochs, order):
    """Of six seconds each, validation included; wherever in the list the handler stands."""
    engine, _ = trainer(tmp_path, clock, TimeLimit(seconds), order=order)
    engine.run()
    assert clock.now == 6 * epochs
    assert (saved(tmp_path)["epoch"], saved(tmp_path)["iteration"]) == (epochs, 4 * epochs)
    assert saved(tmp_path)["stopped"] is False


@pytest.mark.parametrize(
    ("limit", "slow"),
    [((13,), ()), ((2,), ()), ((20,), (7,)), ((150,), (7,))],
    ids=["at an end", "within the first", "within the second", "long ones"],
)
def test_goes_on_as_if_nothing_had_happened(tmp_path, clock, limit, slow):
    """Also where it stopped within an epoch: nothing of that one is kept."""
    whole, network = trainer(tmp_path / "whole", Clock(), TimeLimit())
    whole.run()
    engine, _ = trainer(tmp_path / "parts", clock, TimeLimit(*limit), slow_steps=slow)
    engine.run()
    if (tmp_path / "parts" / "last.pt").exists():
        assert saved(tmp_path / "parts")["stopped"] is False
        assert saved(tmp_path / "parts")["iteration"] == 4 * saved(tmp_path / "parts")["epoch"] < 20
    engine, other = trainer(tmp_path / "parts", clock, TimeLimit(), resume=True)
    engine.run()
    assert engine.state.epoch == 5
    assert differences(network.state_dict(), other.state_dict()) == []
    assert differences(*(torch.load(tmp_path / n / "last.pt", weights_only=True) for n in ("whole", "parts"))) == []


def test_within_an_epoch_it_stops_after_the_step(tmp_path, clock, caplog):
    caplog.set_level(logging.INFO)
    engine, _ = trainer(tmp_path, clock, TimeLimit(20), slow_steps=[7])
    engine.run()
    assert engine.state.iteration == 7
    assert saved(tmp_path)["epoch"] == 1
    assert "the time is up within epoch 2, which is not kept: --resume true goes on from there" in caplog.text


def test_the_first_epoch_is_no_measure_of_the_others(tmp_path, clock):
    """A program warms up in it."""
    engine, _ = trainer(tmp_path, clock, TimeLimit(120), slow_steps=[1])
    engine.run()
    assert engine.state.iteration == 4, "only it is known"
    engine, _ = trainer(tmp_path, clock, TimeLimit(230), slow_steps=[5], resume=True)
    engine.run()
    assert clock.now == 105 + 105 + 3 * 6


def test_a_deadline_counts_whenever_training_starts(tmp_path, clock):
    limit = TimeLimit(seconds=1000, deadline=1e9 + 30)
    clock.now = 15.0  # of reading the data
    engine, _ = trainer(tmp_path, clock, limit)
    engine.run()
    assert saved(tmp_path)["epoch"] == 2
    assert clock.now == 27.0


def test_several_processes_stop_at_the_word_of_the_first(tmp_path, clock, monkeypatch):
    """And never within an epoch: the others would wait for a gradient."""
    words = [0, 0, 1]
    monkeypatch.setattr(stop, "_several", lambda: True)
    monkeypatch.setattr(stop.dist, "broadcast", lambda word, source: word.fill_(words.pop(0)))
    engine, _ = trainer(tmp_path, clock, TimeLimit(1), slow_steps=[2])
    engine.run()
    assert saved(tmp_path)["epoch"] == 2


def test_a_bundle_is_trained_in_parts(tmp_path):
    """The options of train.json; a finished run is told from one that was out of time."""
    phantoms.write(tmp_path / "data", count=20, size=64, seed=2, inbox=0)

    def train(folder, **options):
        flow = ConfigWorkflow(
            [str(CONFIGS / "train.json"), str(CONFIGS / "demo.json")], str(CONFIGS / "metadata.json"),
            logging_file=False, dataset_dir=str(tmp_path / "data"), output_dir=str(folder), image_size=[64, 64],
            batch_size=4, num_workers=0, epoch_length=2, max_epochs=3, device="$torch.device('cpu')",
            **{"network_def::network::dropout": 0.2, "flip_prob": 0.5}, **options,
        )  # fmt: skip
        flow.initialize()
        flow.run()
        flow.finalize()

    train(tmp_path / "whole")
    train(tmp_path / "parts", time_limit=1e-6)
    assert not (tmp_path / "parts" / "last.pt").exists(), "no time for an epoch"
    train(tmp_path / "parts", resume=True, deadline=time.time() + 10_000)
    parts, whole = ((tmp_path / n) for n in ("parts", "whole"))
    assert history(whole) == history(parts)
    for name in ("last.pt", "model.pt"):
        assert differences(*(torch.load(f / name, weights_only=True) for f in (whole, parts))) == [], name
    (first, *_) = csv.DictReader((whole / "history.csv").open())
    assert float(first["images_per_second"]) > 0
    assert 0 <= float(first["data_share"]) <= 1
