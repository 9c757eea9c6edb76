import pytest
import torch
from ignite.engine import Engine
from monai.networks.nets import UNet

from common.engines import LoadWeights, load_weights
from common.errors import UserError
from common.networks.image_only import ImageOnly


def network(channels=(4, 8)):
    torch.manual_seed(0)
    return ImageOnly(UNet(2, 1, 1, channels, (2,)))


def saved(path, content):
    torch.save(content, path)
    return path


def test_the_engine_loads_them_when_it_starts(tmp_path):
    trained, fresh = network(), network()
    for parameter in trained.parameters():
        torch.nn.init.normal_(parameter)
    handler = LoadWeights(saved(tmp_path / "model.pt", trained.state_dict()), fresh)
    engine = Engine(lambda engine, batch: None)
    handler.attach(engine)
    assert not all(torch.equal(a, b) for a, b in zip(fresh.parameters(), trained.parameters(), strict=True))
    engine.run([0])
    assert all(torch.equal(a, b) for a, b in zip(fresh.parameters(), trained.parameters(), strict=True))


def test_no_file_is_told_before_anything_runs(tmp_path):
    with pytest.raises(UserError, match=r"none.pt: there are no trained weights; train them"):
        LoadWeights(tmp_path / "none.pt", network())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a readable file of weights"),
        (b"garbage", "not a readable file of weights"),
        (b"\x80\x02a.", "not a readable file of weights"),
        (b"PK\x03\x04" + bytes(200), "not a readable file of weights"),
        ([1, 2], "is no state dict of a network; give the model.pt that training wrote"),
        ({"model": {}, "optimizer": {}}, "is no state dict of a network"),
        ({}, "these weights do not fit ImageOnly"),
        (network((4, 16)).state_dict(), "these weights do not fit ImageOnly"),
    ],
)
def test_what_is_no_weights_is_one_line(tmp_path, content, words):
    path = tmp_path / "model.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        saved(path, content)
    with pytest.raises(UserError, match=words) as found:
        load_weights(network(), path)
    assert str(found.value).startswith(f"{path}: ")
    assert "\n" not in str(found.value)


def test_damage_anywhere_is_one_line(tmp_path):
    whole = saved(tmp_path / "whole.pt", network().state_dict()).read_bytes()
    path = tmp_path / "model.pt"
    for size in range(0, len(whole) - 1, len(whole) // 40):
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match="not a readable file of weights"):
            load_weights(network(), path)
