"""The mean teacher by itself, on a network of one convolution, and in the bundle that uses it."""

import csv
import json
import logging
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigWorkflow
from monai.data import CacheDataset, DataLoader, DistributedSampler
from monai.engines import PrepareBatchExtraInput, SupervisedEvaluator, SupervisedTrainer
from torch.overrides import TorchFunctionMode

from common.datasets import load_dataset, load_unlabelled, phantoms
from common.engines import BestCheckpoint, MeanTeacherTrainer, ScoreFirst, SeedEachEpoch
from common.errors import UserError, user_error
from common.losses import SemiMedRefLoss
from common.prompts.tokenizer import Tokenizer
from common.transforms import Mixing
from tests.common.engines.test_resume import differences, history, kill_after, torchrun

ROOT = Path(__file__).parents[3]
CONFIGS = ROOT / "bundles" / "semi_medref" / "configs"
LEFT, RIGHT = ("Unilateral pulmonary infection, lower left lung.", "Unilateral pulmonary infection, upper right lung.")


class Tiny(torch.nn.Module):
    """Convolution and batch norm that are trained, a scale that is not; remembers what it got."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = torch.nn.Conv2d(1, 1, 3, padding=1), torch.nn.BatchNorm2d(1)
        self.frozen = torch.nn.Parameter(torch.tensor(1 / 3), requires_grad=False)
        self.got = []

    def forward(self, image, text=None, strong=None, **passed):
        self.got.append({"image": image, "text": text, "strong": strong, **passed})
        pred = self.norm(self.conv(image)) * self.frozen + text[:, 1, None, None, None] / 1000
        if not self.training:
            return pred
        out = {"pred": pred, **passed}
        return out if strong is None else out | {"strong_pred": self.norm(self.conv(strong))}


def rows(count, labelled):
    g = torch.Generator().manual_seed(count)
    found = []
    for n in range(count):
        image, sentence = torch.rand(1, 8, 8, generator=g), (LEFT, RIGHT)[n % 2]
        row = {"image": image, "text": torch.as_tensor(Tokenizer.of("compact").encode(sentence)),
               "text_prompt": sentence, "prompt_used": "default" if n == 2 else "given"}  # fmt: skip
        found.append(row | ({"label": (image > 0.5).float()} if labelled else {"strong": image / 2}))
    return found


def common_arguments(network, loss):
    return {
        "device": torch.device("cpu"), "max_epochs": 3, "train_data_loader": DataLoader(rows(4, True), batch_size=2),
        "network": network, "optimizer": torch.optim.SGD(network.parameters(), lr=0.1), "loss_function": loss,
        "train_handlers": [SeedEachEpoch(0)], "decollate": False,
    }  # fmt: skip


class Schedule:
    """Calls the loss's ``set_epoch``, as LossTerms does."""

    def attach(self, engine):
        engine.add_event_handler(Events.EPOCH_STARTED, lambda e: e.loss_function.set_epoch(e.state.epoch - 1))


def trainer(unlabelled=6, loss=None, network=None, **options):
    torch.manual_seed(0)
    network = network or Tiny()
    loss = loss or SemiMedRefLoss(burn_in=1, ramp=0, align_weight=0, align_unlabelled_weight=0)
    loader = DataLoader(rows(unlabelled, False), batch_size=2) if unlabelled else None
    arguments = common_arguments(network, loss)
    arguments["train_handlers"].append(Schedule())
    return MeanTeacherTrainer(unlabelled=loader, tokenizer="compact", **arguments | options)


def test_the_teacher_is_the_average_of_the_student():
    """θ_T ← α θ_T + (1 − α) θ_S after every step, buffers too; what is frozen or counts is the student's."""
    engine = trainer(decay=(0.7, 0.9), decay_from=1, decay_epochs=2)
    expected = {key: value.clone() for key, value in engine.student.state_dict().items()}
    before = expected["frozen"].clone()

    def follow(engine):
        alpha = {1: 0.7, 2: 0.7, 3: 0.8}[engine.state.epoch]
        for key, value in engine.student.state_dict().items():
            if value.is_floating_point() and key != "frozen":
                expected[key] = alpha * expected[key] + (1 - alpha) * value
            else:
                expected[key] = value.clone()
        for key, value in engine.teacher.state_dict().items():
            torch.testing.assert_close(value, expected[key], msg=key)

    engine.add_event_handler(Events.ITERATION_COMPLETED, follow)
    engine.run()
    assert engine.state.iteration == 9, "of the longer loader"
    assert torch.equal(engine.teacher.frozen, before)
    assert expected["norm.num_batches_tracked"] > 9
    assert not engine.teacher.training
    assert [round(engine.alpha(epoch), 3) for epoch in range(5)] == [0.7, 0.7, 0.8, 0.9, 0.9]


class Touched(TorchFunctionMode):
    """Remembers where the values lie that are compared or averaged."""

    def __init__(self):
        super().__init__()
        self.places = set()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func.__name__ in ("equal", "lerp_", "copy_"):
            self.places |= {value.data_ptr() for value in args[:2]}
        return func(*args, **kwargs or {})


def test_what_is_frozen_is_not_even_compared():
    """It is the larger part of a network with a frozen text encoder."""
    engine = trainer()
    engine.state.ema_momentum = 0.1
    with Touched() as touched:
        engine.averaging._update_ema_model(engine, "ema_momentum")
    expected = {value.data_ptr() for key, value in engine.student.state_dict().items() if key != "frozen"}
    assert expected < touched.places and engine.student.frozen.data_ptr() not in touched.places


class Half(Mixing):
    """Halves the strong views, hides the teacher's answer in the left half, says the other side."""

    threshold = 0.5

    def __init__(self):
        self.seen = []

    def __call__(self, views):
        self.seen.append((views, self.R.random_sample()))
        probability = views.probability.clone()
        probability[..., :4] = 0
        changed, sentences = torch.tensor([True, False]), [RIGHT] * len(views.sentences)
        return replace(views, image=views.image / 2, probability=probability, sentences=sentences, changed=changed)


@pytest.mark.parametrize("mixing", [False, True])
def test_what_student_and_loss_get(mixing):
    """Answers of the teacher on weak views from 0.55, or 0.5 with mixing; sentences changed in the end."""
    mix = Half() if mixing else None
    engine = trainer(mixing=mix, sentence_transforms=[lambda d: {"text_prompt": d["text_prompt"].upper() + " x"}])
    answers = []
    engine.teacher.register_forward_hook(lambda m, args, out: answers.append((args, out.sigmoid())))
    engine.run()
    steps = engine.student.got
    assert [step["strong"] is not None for step in steps] == [False] * 3 + [True] * 6
    source = rows(6, False)
    for number, (step, ((weak, ids), answer)) in enumerate(zip(steps[3:], answers, strict=True)):
        mine = source[number % 3 * 2 : number % 3 * 2 + 2]
        assert torch.equal(weak, torch.stack([row["image"] for row in mine]))
        assert torch.equal(ids, torch.stack([row["text"] for row in mine]))
        strong = torch.stack([row["strong"] for row in mine])
        expected = (answer >= (0.5 if mixing else 0.55)).float()
        if mixing:
            strong, expected[..., :4] = strong / 2, 0
        assert torch.equal(step["strong"], strong) and torch.equal(step["pseudo"], expected)
        said = [RIGHT] * 2 if mixing else [row["text_prompt"] for row in mine]
        words = np.stack([Tokenizer.of("compact").encode(s.upper() + " x") for s in said])
        assert torch.equal(step["strong_text"], torch.as_tensor(words))
        assert step["mixed"].tolist() == [mixing, False]
        assert "weak" not in step
    if mixing:
        assert torch.equal(mix.seen[0][0].probability, answers[0][1])
        assert [views.given for views, _ in mix.seen[:3]] == [[True, True], [False, True], [True, True]]
        draws = [draw for _, draw in mix.seen]
        again = Half()
        trainer(mixing=again).run()
        assert draws == [draw for _, draw in again.seen] and len(set(draws)) == 6, "seeded by the epoch"


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (6, "4 labelled and 6 unlabelled images"),
        (0, "4 labelled images and no unlabelled ones: training is supervised"),
    ],
)
def test_numbers_of_images_are_said(count, words, caplog):
    with caplog.at_level(logging.INFO):
        trainer(unlabelled=count).run()
    assert [record.getMessage() for record in caplog.records if record.name == "training"] == [words]


def test_zones_of_sentences_that_were_given():
    engine = trainer()
    batch = {"text_prompt": [LEFT, RIGHT, LEFT], "prompt_used": ["given", "given", "default"]}
    assert engine.zones(batch).tolist() == [[0, 0, 1, 0, 0, 0], [0, 0, 0, 1, 0, 0], [0] * 6]


def test_the_weak_views_come_along_to_be_aligned():
    engine = trainer(loss=SemiMedRefLoss(burn_in=0, align_weight=0, align_unlabelled_weight=0.1))
    found = engine.views(next(iter(engine.unlabelled)))
    assert torch.equal(found["weak"], torch.stack([row["image"] for row in rows(6, False)[:2]]))
    assert found["weak_zones"].tolist() == [[0, 0, 1, 0, 0, 0], [0, 0, 0, 1, 0, 0]]
    assert found["weak_text"].shape == (2, 48)


@pytest.mark.parametrize("how", ["no unlabelled images", "no weight"])
def test_otherwise_it_trains_as_the_supervised_trainer(how):
    """Bit for bit; unlabelled images are not even loaded where they weigh nothing."""
    options = {"unlabelled": 0} if how == "no unlabelled images" else {"epoch_length": 2}
    loss = SemiMedRefLoss(weight=0.0 if options.get("unlabelled") is None else 0.3, align_weight=0)
    engine = trainer(loss=loss, **options)
    if engine.unlabelled is not None:
        engine.unlabelled.__class__ = type("Unreadable", (DataLoader,), {"__iter__": lambda self: 1 / 0})
    engine.run()
    torch.manual_seed(0)
    plain = SupervisedTrainer(
        **common_arguments(network := Tiny(), SemiMedRefLoss(align_weight=0)),
        prepare_batch=PrepareBatchExtraInput({"text": "text"}),
    )
    plain.run()
    assert differences(dict(network.state_dict()), dict(engine.student.state_dict())) == []


def test_the_teacher_is_validated_if_asked_for():
    seen = []
    loader = DataLoader(rows(2, True), batch_size=2)
    network = Tiny()
    evaluator = SupervisedEvaluator(
        torch.device("cpu"), loader, network, prepare_batch=PrepareBatchExtraInput({"text": "text"}), decollate=False
    )
    engine = trainer(network=network, evaluate="teacher", evaluator=evaluator)
    engine.run()
    student, teacher = ({k: v.clone() for k, v in m.state_dict().items()} for m in (engine.student, engine.teacher))
    assert differences(student, teacher) != []
    evaluator.add_event_handler(
        Events.EPOCH_COMPLETED, lambda e: seen.append({k: v.clone() for k, v in network.state_dict().items()})
    )
    evaluator.run()
    assert differences(seen[0], teacher) == []
    assert differences(dict(engine.student.state_dict()), student) == []
    assert differences(dict(engine.teacher.state_dict()), teacher) == []


@pytest.mark.parametrize("evaluate", ["student", "teacher"])
def test_the_weights_that_were_loaded_are_scored_first(tmp_path, evaluate):
    """Whoever is validated: the teacher was made before they were loaded."""
    torch.manual_seed(1)
    loaded = {
        key: torch.rand_like(value) + 1 for key, value in Tiny().state_dict().items() if value.is_floating_point()
    }
    seen = []
    network = Tiny()
    evaluator = SupervisedEvaluator(
        torch.device("cpu"), DataLoader(rows(2, True), batch_size=2), network,
        prepare_batch=PrepareBatchExtraInput({"text": "text"}), decollate=False,
    )  # fmt: skip

    def score(engine):
        seen.append({key: value.clone() for key, value in network.state_dict().items()})
        engine.state.metrics["dice"] = 0.5

    evaluator.add_event_handler(Events.EPOCH_COMPLETED, score)
    saver = BestCheckpoint(network, tmp_path / "model.pt", "dice")
    saver.attach(evaluator)

    class Loader:
        def attach(self, engine):
            engine.add_event_handler(Events.STARTED, lambda e: network.load_state_dict(loaded, strict=False))

    handlers = [Loader(), ScoreFirst(evaluator, saver)]
    engine = trainer(network=network, evaluate=evaluate, evaluator=evaluator, train_handlers=handlers, max_epochs=1)
    engine.run()
    assert [key for key, value in loaded.items() if not torch.equal(seen[0][key], value)] == []
    assert saver.best == 0.5


@pytest.mark.parametrize("evaluate", ["teacher", "both"])
def test_faults(evaluate):
    with pytest.raises(UserError, match=f"evaluate: '{evaluate}', expected student, or teacher and with it"):
        trainer(evaluate=evaluate)


@pytest.fixture
def process_group(tmp_path):
    """One process of one, so that samplers are those of several."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_several_processes_get_another_order_in_each_pass(process_group):
    """Of labelled and unlabelled images, in all passes of all epochs."""

    class Order(DistributedSampler):
        def __iter__(self):
            found = list(super().__iter__())
            self.orders = {**getattr(self, "orders", {}), self.epoch: tuple(found)}
            return iter(found)

    labelled, unlabelled = rows(20, True), rows(20, False)
    network = Tiny()
    arguments = common_arguments(network, SemiMedRefLoss(burn_in=0, ramp=0, align_weight=0, align_unlabelled_weight=0))
    arguments |= {"train_data_loader": DataLoader(labelled, batch_size=10, sampler=Order(labelled))}
    arguments["train_handlers"].append(Schedule())
    loader = DataLoader(unlabelled, batch_size=10, sampler=Order(unlabelled))
    MeanTeacherTrainer(unlabelled=loader, tokenizer="compact", epoch_length=5, **arguments).run()
    for images in (arguments["train_data_loader"], loader):
        orders = images.sampler.orders
        assert set(orders) == {epoch + 3 * again for epoch in (1, 2, 3) for again in (0, 1, 2)}
        assert len(set(orders.values())) == 9


# in the bundle


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantoms")
    phantoms.write(root, count=40, size=64, seed=2, inbox=0)
    return root


# the teacher is not sure of anything yet, so that the gate must stand open for anything to be mixed
OPTIONS = {
    "image_size": [64, 64], "batch_size": 4, "num_workers": 0, "epoch_length": 2, "max_epochs": 5, "fraction": 0.25,
    "network_def::dropout": 0.1, "train::trainer::mixing::gate": 0.0, "train::trainer::mixing::confident": 0.0,
    "train::trainer::mixing::prob": 1.0, "device": "$torch.device('cpu')",
}  # fmt: skip


def workflow(data: Path, folder: Path, **options) -> ConfigWorkflow:
    flow = ConfigWorkflow(
        [str(CONFIGS / f"{name}.json") for name in ("train", "demo")], str(CONFIGS / "metadata.json"),
        logging_file=False, dataset_dir=str(data), output_dir=str(folder), **OPTIONS | options,
    )  # fmt: skip
    flow.initialize()
    return flow


def train(data: Path, folder: Path, stop_after: int | None = None, **options) -> None:
    """One run in this process; with ``stop_after`` it dies in that step."""
    flow = workflow(data, folder, **options)
    if stop_after is not None:

        def die(engine):
            raise InterruptedError

        flow.parser.get_parsed_content("train::trainer").add_event_handler(
            Events.ITERATION_STARTED(once=stop_after), die
        )
    try:
        flow.run()
    except (InterruptedError, RuntimeError):
        assert stop_after is not None
    flow.finalize()


@pytest.fixture(scope="module")
def unbroken(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    train(data, folder)
    return folder


def test_unlabelled_images_take_part(unbroken):
    rows = list(csv.DictReader((unbroken / "history.csv").open()))
    weights = [float(row["loss/weight"]) for row in rows]
    assert weights == sorted(weights) and weights[0] == weights[1] == 0 and weights[-1] == pytest.approx(0.3)
    assert [row["loss/unsupervised"] != "" for row in rows] == [weight > 0 for weight in weights]
    assert max(float(row["loss/mixed"] or 0) for row in rows) > 0
    state = torch.load(unbroken / "last.pt", weights_only=True)
    assert state["teacher"].keys() == state["network"].keys()


def test_the_unlabelled_data_has_a_fingerprint(data, unbroken, tmp_path):
    """In the sidecar of the best weights and in the last checkpoint: with other data it is not continued."""
    count = len(load_unlabelled("auto", data, fraction=OPTIONS["fraction"]))
    sidecar = json.loads((unbroken / "model.json").read_text())
    assert sidecar["unlabelled"]["items"] == count > sidecar["data"]["items"]
    saved = torch.load(unbroken / "last.pt", weights_only=True)["_run"]["config"]
    assert json.loads(saved["data"])["unlabelled"] == sidecar["unlabelled"]
    copy, run = tmp_path / "data", tmp_path / "run"
    subprocess.run(["cp", "-r", str(data), str(copy)], check=True)
    subprocess.run(["cp", "-r", str(unbroken), str(run)], check=True)
    image = Path(load_unlabelled("auto", copy, fraction=OPTIONS["fraction"])[0]["image"])
    image.write_bytes(image.read_bytes() + b"other")
    flow = workflow(copy, run, resume=True)
    with pytest.raises((UserError, RuntimeError)) as fault:
        flow.run()
    assert "last.pt: was written with another configuration (data differ)" in str(user_error(fault.value))


@pytest.mark.parametrize("weight", [0.3, 0.0])
def test_without_weight_unlabelled_images_are_not_cached(data, tmp_path, weight):
    """But an epoch is as long as with them."""
    flow = workflow(data, tmp_path, epoch_length=None, **{"loss::weight": weight})
    engine = flow.parser.get_parsed_content("train::trainer")
    assert isinstance(engine.unlabelled.dataset, CacheDataset) == bool(weight)
    assert engine.state.epoch_length == len(engine.unlabelled) > len(engine.data_loader)


def same_run(a: Path, b: Path) -> None:
    assert len(history(a)) == OPTIONS["max_epochs"]
    assert history(a) == history(b)
    for name in ("last.pt", "model.pt"):
        assert differences(*(torch.load(f / name, weights_only=True) for f in (a, b))) == [], name


@pytest.mark.parametrize("step", [4, 8])
def test_a_resumed_run_ends_as_the_unbroken_one(data, unbroken, tmp_path, step):
    """Bit for bit: student, teacher, optimiser, history; broken off in burn-in and with unlabelled images."""
    train(data, tmp_path, stop_after=step)
    assert len(history(tmp_path)) == (step - 1) // 2
    train(data, tmp_path, resume=True)
    same_run(unbroken, tmp_path)


def test_masks_of_unlabelled_images_are_never_read(data, unbroken, tmp_path):
    """Those files hold garbage now, and the run is the same."""
    copy = tmp_path / "data"
    subprocess.run(["cp", "-r", str(data), str(copy)], check=True)
    labelled = load_dataset("auto", copy, "train", fraction=OPTIONS["fraction"])
    rest = {row["image"] for row in load_unlabelled("auto", copy, fraction=OPTIONS["fraction"])}
    spoilt = [row["label"] for row in load_dataset("auto", copy, "train") if row["image"] in rest]
    assert len(spoilt) > len(labelled)
    for path in spoilt:
        Path(path).write_bytes(b"unreadable")
    train(copy, tmp_path / "run")
    assert history(unbroken) == history(tmp_path / "run")
    for name in ("network", "teacher"):
        states = [torch.load(f / "last.pt", weights_only=True)[name] for f in (unbroken, tmp_path / "run")]
        assert differences(*states) == []


@pytest.mark.full
def test_two_processes_killed_and_resumed(data, tmp_path):
    def start(name: str, port: int, resume: bool = False) -> subprocess.Popen:
        words = OPTIONS | {"dataset_dir": data, "output_dir": tmp_path / name, "resume": resume}
        words.pop("device")
        return torchrun("semi_medref", words, port)

    assert start("whole", 29541).wait(500) == 0
    kill_after(start("killed", 29542), tmp_path / "killed", lines=3, seconds=400)
    assert 3 <= len(history(tmp_path / "killed")) < 5
    assert start("killed", 29543, resume=True).wait(500) == 0
    same_run(tmp_path / "whole", tmp_path / "killed")
