import csv

import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import DataLoader
from monai.engines import SupervisedTrainer

from common.engines import EarlyStop, GradientNorm, History, LossTerms, SeedEachEpoch
from common.errors import UserError


class Loss(torch.nn.Module):
    """The output's mean times a factor that grows each epoch."""

    def __init__(self, factor=1.0):
        super().__init__()
        self.factor, self.epochs, self.terms = factor, [], {}

    def set_epoch(self, epoch):
        self.epochs.append(epoch)

    def forward(self, output, target):
        self.terms = {"mean": output.mean()}
        return self.factor * self.terms["mean"]


def trainer(handlers, loss=None, epochs=2, data=None):
    network = torch.nn.Linear(2, 1, bias=False)
    torch.nn.init.constant_(network.weight, 1.0)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    data = data or [{"image": torch.tensor([3.0, 4.0]), "label": torch.ones(1)}] * 4
    return SupervisedTrainer(
        torch.device("cpu"), epochs, DataLoader(data, batch_size=2), network, optimizer, loss or Loss(),
        train_handlers=handlers, decollate=False,
    )  # fmt: skip


def test_loss_terms_are_averaged_and_the_schedule_is_called():
    loss = Loss(2.0)
    engine = trainer([LossTerms(loss)], loss)
    engine.run()
    assert loss.epochs == [0, 1]
    assert engine.state.metrics == {"loss": 14.0, "loss/mean": 7.0}


def test_a_loss_that_is_not_finite_stops_before_it_is_saved():
    loss = Loss(float("nan"))
    with pytest.raises(UserError, match="not finite in epoch 1: lower --learning_rate"):
        trainer([LossTerms(loss)], loss).run()


def test_gradient_norm_is_that_of_the_unscaled_gradient():
    # d mean(w x) / dw = x: norm 5
    engine = trainer([GradientNorm()])
    engine.run()
    assert engine.state.metrics["gradient_norm"] == pytest.approx(5.0)

    scaled = trainer([norm := GradientNorm(max_norm=1.0)])
    scaled.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    norm.start(scaled)
    scaled.scaler.scale(scaled.network(torch.tensor([[3.0, 4.0]])).mean()).backward()
    norm.add(scaled)
    assert float(norm.total) == pytest.approx(5.0)
    assert float(scaled.network.weight.grad.norm()) == pytest.approx(1.0, rel=1e-4)


class Evaluator(Engine):
    """A validation that gives the next of some values, every so many epochs; attached as a trainer's handler."""

    def __init__(self, values, interval=1):
        super().__init__(lambda engine, batch: None)
        self.values, self.interval = iter(values), interval

    def attach(self, trainer):
        @trainer.on(Events.EPOCH_COMPLETED(every=self.interval))
        def validate(engine):
            self.state.epoch = engine.state.epoch
            self.state.metrics["dice"] = next(self.values)


@pytest.mark.parametrize(("patience", "stops"), [(2, 4), (0, 8)])
def test_early_stop(patience, stops):
    evaluator = Evaluator([0.1, 0.5, 0.4, 0.3, 0.9, 0.9, 0.9, 0.9])
    stop = EarlyStop(evaluator, "dice", patience)
    engine = trainer([evaluator, stop], epochs=8)
    engine.run()
    assert engine.state.epoch == stops


def test_early_stop_counter_is_carried_on():
    evaluator = Evaluator([0.5, 0.4])
    stop = EarlyStop(evaluator, "dice", 2)
    trainer([evaluator, stop], epochs=2).run()
    again = Evaluator([0.3, 0.9])
    resumed = EarlyStop(again, "dice", 2)
    engine = trainer([again, resumed], epochs=2)
    resumed.load_state_dict(stop.state_dict())
    engine.run()
    assert engine.state.epoch == 1


def test_history_has_a_row_an_epoch_and_empty_cells_without_validation(tmp_path):
    evaluator = Evaluator([0.25], interval=2)
    loss = Loss()
    engine = trainer([], loss, epochs=2)
    history = History(tmp_path / "history.csv", engine.optimizer, evaluator)
    for handler in (LossTerms(loss), evaluator, history):
        handler.attach(engine)
    engine.run()
    rows = list(csv.DictReader((tmp_path / "history.csv").open()))
    assert [(row["epoch"], row["steps"], row["loss"], row["dice"]) for row in rows] == [
        ("1", "2", "7.0", ""),
        ("2", "4", "7.0", "0.25"),
    ]


class Draws(torch.utils.data.Dataset):
    """Each item is a random number."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return {"image": torch.rand(2), "label": torch.ones(1)}


@pytest.mark.parametrize("workers", [0, 2])
def test_randomness_depends_on_seed_and_epoch_alone(workers):
    def draws(seed, first_epoch, epochs):
        seen = []
        engine = trainer([SeedEachEpoch(seed)], epochs=epochs, data=[0])
        engine.data_loader = DataLoader(Draws(), batch_size=2, num_workers=workers, shuffle=True)
        engine.state.epoch_length = 3  # one and a half times the data
        engine._process_function = lambda e, batch: seen.append(batch["image"].clone()) or {"loss": torch.zeros(())}
        engine.state.epoch, engine.state.iteration = first_epoch, 3 * first_epoch
        torch.rand(7)  # what was drawn before must not matter
        engine.run()
        return torch.cat(seen)

    whole = draws(0, 0, 3)
    assert torch.equal(whole[12:], draws(0, 2, 3))
    assert not torch.equal(whole[:6], whole[6:12])
    assert not torch.equal(whole, draws(1, 0, 3))
