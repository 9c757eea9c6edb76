import hashlib
import json

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import DataLoader
from monai.engines import SupervisedTrainer

from common.engines import BestCheckpoint, LastCheckpoint, ScoreFirst, checkpoint
from common.engines.checkpoint import what_counts
from common.errors import UserError


def trainer(folder, *, resume=False, config=None, data=None, epochs=2, seed=0, best=None):
    torch.manual_seed(seed)
    network = torch.nn.Linear(2, 1)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    items = [{"image": torch.ones(2), "label": torch.ones(1)}] * 4
    last = LastCheckpoint(
        folder / "last.pt",
        {"network": network, "optimizer": optimizer, "nothing": None, "best": best},
        config or {"a": 1},
        data,
        resume,
    )
    engine = SupervisedTrainer(
        torch.device("cpu"), epochs, DataLoader(items, batch_size=2), network, optimizer, torch.nn.MSELoss(),
        train_handlers=[last], decollate=False,
    )  # fmt: skip
    return engine, network


def test_continues_where_it_was(tmp_path):
    whole, network = trainer(tmp_path / "a", epochs=4)
    whole.run()
    trainer(tmp_path / "b", epochs=2)[0].run()
    engine, other = trainer(tmp_path / "b", resume=True, epochs=4, seed=5)
    engine.run()
    assert engine.state.epoch == 4
    assert torch.equal(network.weight, other.weight)


def test_an_old_run_is_not_overwritten(tmp_path):
    trainer(tmp_path)[0].run()
    with pytest.raises(UserError, match=r"last.pt: a run was begun in this folder; continue it with --resume true"):
        trainer(tmp_path)


def test_another_configuration_is_refused_by_its_keys(tmp_path):
    trainer(tmp_path, config={"a": 1, "b": [2], "output_dir": "x"})[0].run()
    engine, _ = trainer(tmp_path, resume=True, config={"a": 1, "b": [3], "c": 0, "output_dir": "y"}, epochs=3)
    with pytest.raises(UserError, match=r"another configuration \(b, c differ\)"):
        engine.run()


def test_a_damaged_checkpoint_is_one_line(tmp_path):
    (tmp_path / "last.pt").write_bytes(b"PK\x03\x04 half a file")
    engine, _ = trainer(tmp_path, resume=True)
    with pytest.raises(UserError, match=r"last\.pt: cannot be read"):
        engine.run()


def test_resume_without_a_checkpoint_starts_anew(tmp_path):
    engine, _ = trainer(tmp_path, resume=True)
    engine.run()
    assert engine.state.epoch == 2


def test_free_keys_and_metadata_do_not_count():
    assert what_counts({"seed": 1, "resume": True, "output_dir": "x", "_meta_": {}}) == {"seed": "1"}


def with_splits(value):
    return {
        "a": 1,
        "splits": value,
        "train": {"dataset": {"data": {"name": "@dataset", "splits": "@splits"}}, "handlers": [{"splits": "@splits"}]},
        "validate": {"data": "$_load(@dataset, 'validation', limit=@val_limit, splits=@splits)"},
    }


BEFORE_SPLITS = {
    "a": 1,
    "train": {"dataset": {"data": {"name": "@dataset"}}, "handlers": [{}]},
    "validate": {"data": "$_load(@dataset, 'validation', limit=@val_limit)"},
}


def test_a_later_setting_with_the_old_behaviour_does_not_count():
    assert what_counts(with_splits("published")) == what_counts(BEFORE_SPLITS)
    other = what_counts(with_splits("volume_disjoint"))
    assert other["splits"] == '"volume_disjoint"'
    assert other["train"] != what_counts(BEFORE_SPLITS)["train"]
    # only what hands the setting on is left out
    assert what_counts({"x": {"splits": "published"}}) == {"x": '{"splits": "published"}'}


def test_a_run_from_before_a_setting_is_continued(tmp_path, monkeypatch):
    with monkeypatch.context() as then:
        then.setattr(checkpoint, "LATER_KEYS", {})
        trainer(tmp_path, config=BEFORE_SPLITS)[0].run()
    engine, _ = trainer(tmp_path, resume=True, config=with_splits("volume_disjoint"), epochs=3)
    with pytest.raises(UserError, match=r"another configuration \(splits, train, validate differ\)"):
        engine.run()
    engine, _ = trainer(tmp_path, resume=True, config=with_splits("published"), epochs=3)
    engine.run()
    assert engine.state.epoch == 3


def best(tmp_path, values):
    network = torch.nn.Linear(1, 1)
    saver = BestCheckpoint(network, tmp_path / "model.pt", "dice", {"seed": 3})
    engine = Engine(lambda e, b: None)
    engine.state.rank = 0
    saver.attach(engine)
    saved = []
    for value in values:
        engine.state.metrics["dice"] = value
        torch.nn.init.constant_(network.weight, value)
        engine.run([0])
        saved.append(float(torch.load(tmp_path / "model.pt", weights_only=True)["weight"]))
    return saver, saved


def test_only_a_better_model_is_saved(tmp_path):
    _, saved = best(tmp_path, [0.5, 0.4, 0.7, 0.7, float("nan"), 0.6])
    assert saved == pytest.approx([0.5, 0.5, 0.7, 0.7, 0.7, 0.7])
    sidecar = json.loads((tmp_path / "model.json").read_text())
    assert sidecar["value"] == 0.7
    assert sidecar["seed"] == 3
    assert {"commit", "versions", "device"} <= sidecar.keys()


def test_the_threshold_is_taken_over(tmp_path):
    saver, _ = best(tmp_path, [0.7])
    other = BestCheckpoint(torch.nn.Linear(1, 1), tmp_path / "model.pt", "dice")
    other.load_state_dict(saver.state_dict())
    assert (other.best, other.epoch) == (saver.best, saver.epoch)


def test_other_data_is_refused(tmp_path):
    trainer(tmp_path, data={"train": "abc"})[0].run()
    engine, _ = trainer(tmp_path, data={"train": "abd"}, resume=True, epochs=3)
    with pytest.raises(UserError, match=r"another configuration \(data differ\)"):
        engine.run()


def begun(folder, file, *, resume=False, epochs=2, meanwhile=None):
    """Train with an encoder that begins with ``file``, each epoch the best; ``meanwhile`` is written to it in each."""
    config = {"a": 1, "image_checkpoint": str(file), "text_checkpoint": "compact"}
    saver = BestCheckpoint(torch.nn.Linear(1, 1), folder / "model.pt", "dice", {"config": config})
    evaluator = Engine(lambda e, b: None)
    evaluator.state.rank = 0
    saver.attach(evaluator)
    engine, _ = trainer(folder, config=config, resume=resume, epochs=epochs, best=saver)

    @engine.on(Events.EPOCH_STARTED)
    def train(e):
        if meanwhile is not None:
            file.write_bytes(meanwhile)
        evaluator.state.metrics["dice"] = e.state.epoch / 10
        evaluator.run([0])

    engine.run()
    assert engine.state.epoch == epochs
    return json.loads((folder / "model.json").read_text()).get("checkpoints")


def digest(content):
    return hashlib.sha256(content).hexdigest()


def test_what_encoders_begin_with_is_read_when_training_starts_and_once(tmp_path, monkeypatch):
    file, read = tmp_path / "first.pt", []
    file.write_bytes(b"first")
    real = checkpoint.sha256_of
    monkeypatch.setattr(checkpoint, "sha256_of", lambda path: read.append(path) or real(path))
    assert begun(tmp_path, file, meanwhile=b"made anew") == {"image_checkpoint": digest(b"first")}
    assert read == [file]
    kept = torch.load(tmp_path / "last.pt", weights_only=True)["_run"]["checkpoints"]
    assert kept == {"image_checkpoint": digest(b"first")}


def test_a_run_is_not_continued_from_another_start(tmp_path):
    file = tmp_path / "first.pt"
    file.write_bytes(b"first")
    begun(tmp_path, file, meanwhile=b"made anew")
    with pytest.raises(UserError) as fault:
        begun(tmp_path, file, resume=True, epochs=3)
    assert str(fault.value) == (
        f"{tmp_path / 'last.pt'}: the run began with other files (image_checkpoint {file} has SHA-256 "
        f"{digest(b'made anew')[:16]}, then {digest(b'first')[:16]}); put them back, or give another --output_dir"
    )
    file.unlink()
    with pytest.raises(UserError, match="has SHA-256 of no file, then "):
        begun(tmp_path, file, resume=True, epochs=3)
    file.write_bytes(b"first")
    assert begun(tmp_path, file, resume=True, epochs=3, meanwhile=b"and") == {"image_checkpoint": digest(b"first")}


def test_a_run_from_before_the_start_was_kept_is_continued_and_claims_none(tmp_path):
    file = tmp_path / "first.pt"
    file.write_bytes(b"first")
    begun(tmp_path, file)
    content = torch.load(tmp_path / "last.pt", weights_only=True)
    del content["_run"]["checkpoints"]
    torch.save(content, tmp_path / "last.pt")
    file.write_bytes(b"made anew")
    assert begun(tmp_path, file, resume=True, epochs=3) is None
    assert begun(tmp_path, file, resume=True, epochs=4) is None


def test_the_model_of_an_earlier_run_is_kept(tmp_path):
    best(tmp_path, [0.7])
    best(tmp_path, [0.2, 0.3])
    assert float(torch.load(tmp_path / "previous_model.pt", weights_only=True)["weight"]) == pytest.approx(0.7)
    assert json.loads((tmp_path / "previous_model.json").read_text())["value"] == 0.7
    assert json.loads((tmp_path / "model.json").read_text())["value"] == 0.3


def test_there_is_a_model_at_every_moment(tmp_path, monkeypatch):
    """A server may read it, or a kill come, while a better one is written."""
    best(tmp_path, [0.7])
    save = checkpoint._save

    def watched(content, path):
        assert float(torch.load(tmp_path / "model.pt", weights_only=True)["weight"]) == pytest.approx(0.7)
        assert (tmp_path / "previous_model.pt").exists()
        save(content, path)

    monkeypatch.setattr(checkpoint, "_save", watched)
    best(tmp_path, [0.8])
    assert float(torch.load(tmp_path / "model.pt", weights_only=True)["weight"]) == pytest.approx(0.8)


def fine_tuned(tmp_path, before, after):
    """Weights that score ``before`` are trained further, each epoch scoring as ``after`` says."""
    network = torch.nn.Linear(1, 1)
    torch.nn.init.constant_(network.weight, before)
    torch.save(network.state_dict(), tmp_path / "model.pt")
    saver = BestCheckpoint(network, tmp_path / "model.pt", "dice")
    evaluator = Engine(lambda e, b: None)
    evaluator.state.rank = 0
    run = evaluator.run

    def score(epoch):
        evaluator.state.metrics["dice"] = float(network.weight)
        run([0])

    evaluator.run = score
    saver.attach(evaluator)
    trainer = Engine(lambda e, b: torch.nn.init.constant_(network.weight, after[e.state.epoch - 1]))
    ScoreFirst(evaluator, saver).attach(trainer)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda e: evaluator.run(e.state.epoch))
    trainer.run([0], max_epochs=len(after))
    return saver


def weight(path):
    return float(torch.load(path, weights_only=True)["weight"])


def test_worse_weights_do_not_take_the_place_of_those_that_were_trained_further(tmp_path):
    saver = fine_tuned(tmp_path, 0.5, [0.3, 0.5, 0.4])
    assert weight(tmp_path / "model.pt") == 0.5
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]  # nothing was written
    assert saver.best == 0.5


def test_better_weights_do_and_the_old_ones_are_kept(tmp_path):
    saver = fine_tuned(tmp_path, 0.5, [0.25, 0.75, 0.875])
    assert weight(tmp_path / "model.pt") == 0.875
    assert weight(tmp_path / "previous_model.pt") == 0.5
    assert (saver.best, saver.only_compare) == (0.875, False)


@pytest.mark.parametrize("after", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_replaces_nothing(tmp_path, after):
    saver = fine_tuned(tmp_path, 0.5, [after, 0.25])
    assert weight(tmp_path / "model.pt") == 0.5
    assert saver.best == 0.5


@pytest.mark.parametrize("before", [float("nan"), float("inf"), -float("inf")])
def test_nothing_is_trained_where_the_present_score_is_no_number(tmp_path, before):
    """Any number would be better than none."""
    with pytest.raises(UserError, match=r"dice: the present weights score -?(nan|inf), with which no others can be"):
        fine_tuned(tmp_path, before, [0.75])
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]
    assert not np.isfinite(weight(tmp_path / "model.pt"))
