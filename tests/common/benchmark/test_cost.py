from collections import Counter

import pytest
import torch
from torch import nn

from common.benchmark.cost import cost, flops, forget, parameters, peak_bytes
from common.bundle import bundle_folder
from common.networks.text import FrozenText
from tests.bundles.base import BUNDLES

KEYS = {"parameters", "flops", "milliseconds", "image_size", "device", "threads", "peak_bytes"}


@pytest.mark.parametrize("name", BUNDLES)
def test_every_bundle(name):
    made = []
    hook = nn.modules.module.register_module_forward_pre_hook(lambda module, _: made.append(module))
    try:
        found = cost(bundle_folder(name), ["demo"], repeats=1)
    finally:
        hook.remove()
    network = made[0]  # the first that is called: the network itself
    assert found.keys() == KEYS
    counts = found["parameters"]
    own = [sum(p.numel() for p in module.parameters(recurse=False)) for module in network.modules()]
    assert counts["all"] == sum(own) == sum(counts["parts"].values())
    assert set(counts["parts"]) == {child for child, _ in network.named_children()}
    frozen = [module for module in network.modules() if isinstance(module, FrozenText)]
    assert counts["trained"] == counts["all"] - sum(p.numel() for module in frozen for p in module.parameters())
    calls = Counter(map(id, made))
    assert all(calls[id(module.encoder)] == calls[id(network)] for module in frozen), (
        "the sentence is encoded each time"
    )
    assert found["image_size"] == "112 x 112"
    assert found["flops"] > 1e8
    assert found["milliseconds"] > 0
    assert found["threads"] == torch.get_num_threads()
    assert found["peak_bytes"] > 4 * counts["all"]


def test_settings_change_the_network_and_its_size():
    folder = bundle_folder("unet")
    demo = cost(folder, ["demo"], repeats=1)
    twice = cost(folder, ["demo"], {"image_size": [224, 112]}, repeats=1)
    assert twice["image_size"] == "224 x 112"
    assert twice["flops"] == 2 * demo["flops"]
    assert twice["parameters"] == demo["parameters"]
    more = cost(folder, ["demo"], {"network_def::network::num_res_units": 2}, repeats=1)
    assert more["parameters"]["all"] > demo["parameters"]["all"]


def test_flops_of_convolutions_and_matrix_products():
    network = nn.Sequential(
        nn.Conv2d(3, 8, 5, padding=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=4),
        nn.Flatten(), nn.Linear(8 * 6 * 5, 7),
    ).eval()  # fmt: skip
    image = torch.rand(1, 3, 12, 10)
    first = 2 * 8 * 3 * 5 * 5 * 12 * 10
    second = 2 * 8 * (8 // 4) * 3 * 3 * 6 * 5
    last = 2 * (8 * 6 * 5) * 7
    with torch.no_grad():
        assert flops(lambda: network(image)) == first + second + last


def test_flops_of_attention_are_all_counted():
    width, length, heads = 16, 6, 4
    layer = nn.MultiheadAttention(width, heads, batch_first=True).eval()
    x = torch.rand(1, length, width)
    projections = 4 * 2 * length * width * width
    products = 2 * 2 * length * length * width
    fast = torch.backends.mha.get_fastpath_enabled()
    with torch.no_grad():
        assert flops(lambda: layer(x, x, x)) == projections + products
        assert flops(lambda: layer(x, x, x, need_weights=False)) == projections + products
        q = torch.rand(1, heads, length, 8)
        assert flops(lambda: nn.functional.scaled_dot_product_attention(q, q, q)) == 2 * 2 * heads * length**2 * 8
    assert torch.backends.mha.get_fastpath_enabled() == fast


def test_the_sentence_is_encoded_each_time():
    class Sentence(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(5, 4)
            self.layer = nn.Linear(4, 3)

        def forward(self, ids):
            return self.layer(self.embed(ids))

    text = FrozenText(Sentence())
    ids = torch.tensor([[1, 2, 3]])

    def call():
        forget(text)
        text(ids)

    assert flops(call) == flops(call) == 2 * 3 * 4 * 3
    assert flops(lambda: text(ids)) == 0


def test_shared_and_own_parameters_are_counted_once():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.one = nn.Linear(2, 3)
            self.two = nn.Sequential(self.one, nn.Linear(3, 1))
            self.scale = nn.Parameter(torch.ones(5), requires_grad=False)

    assert parameters(Net()) == {"all": 18, "trained": 13, "parts": {"one": 9, "two": 4, "own": 5}}


def test_peak_of_what_lives_at_the_same_time():
    network = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 5), nn.Linear(5, 1))
    x = torch.rand(4, 10)
    weights = 4 * (10 * 20 + 20 + 20 * 5 + 5 + 5 + 1)
    # the widest moment: both sides of the ReLU
    with torch.no_grad():
        for _ in range(2):
            assert peak_bytes(lambda: network(x), network, [x]) == weights + 4 * 40 + 2 * 4 * 4 * 20
        kept = []
        grown = peak_bytes(lambda: kept.extend(torch.zeros(100) for _ in range(3)), network, [x])
        assert grown == weights + 4 * 40 + 3 * 400
        views = peak_bytes(lambda: [x.view(-1), x[1:], x.t()], network, [x])
        assert views == weights + 4 * 40
