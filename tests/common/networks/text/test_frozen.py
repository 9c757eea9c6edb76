import copy
import pickle

import pytest
import torch
from torch import nn

from common.networks.text import BertText, FrozenText

TINY = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 16,
}
IDS = torch.tensor([[2, 7, 8, 3, 0, 0], [2, 9, 3, 0, 0, 0], [2, 7, 8, 3, 0, 0]])


@pytest.fixture
def frozen(monkeypatch):
    """A frozen encoder that counts its calls in ``.calls``."""
    torch.manual_seed(0)
    module = FrozenText(BertText(TINY, dropout=0.5))
    module.calls = []
    module.encoder.register_forward_hook(lambda m, ids, out: module.calls.append(tuple(ids[0].shape)))
    return module


def test_each_sentence_is_encoded_once_and_alone(frozen):
    first = frozen(IDS)
    assert first.shape == (3, 1, 6, 16)
    assert frozen.calls == [(1, 6), (1, 6)]
    assert torch.equal(frozen(IDS[[1, 0]]), first[[1, 0]])
    assert len(frozen.calls) == 2
    for i in range(3):
        assert torch.equal(first[i : i + 1], frozen.encoder(IDS[i : i + 1])), "bit for bit the lone sentence"
    torch.testing.assert_close(first, frozen.encoder(IDS))


def test_frozen_and_in_eval_mode_always(frozen):
    outer = nn.Sequential(frozen).train()
    assert outer.training
    assert not frozen.encoder.bert.training
    assert not any(p.requires_grad for p in outer.parameters())
    assert not frozen(IDS).requires_grad
    assert torch.equal(frozen.encoder(IDS), frozen.encoder(IDS)), "no dropout"


def test_loading_weights_forgets(frozen):
    before = frozen(IDS)
    outer = nn.Sequential(frozen)
    outer.load_state_dict({k: v + torch.randn_like(v) for k, v in outer.state_dict().items()})
    assert not torch.allclose(frozen(IDS), before)


def test_moving_forgets(frozen):
    frozen(IDS)
    nn.Sequential(frozen).to(torch.float64)
    assert frozen(IDS).dtype == torch.float64


def test_neither_state_dict_nor_copies_hold_sentences(frozen):
    keys = set(frozen.state_dict())
    states = frozen(IDS)
    frozen.encoder._forward_hooks.clear()
    assert set(frozen.state_dict()) == keys
    for other in (copy.deepcopy(frozen), pickle.loads(pickle.dumps(frozen))):
        assert not other._states
        assert torch.equal(other(IDS), states)


def test_the_least_recently_used_is_forgotten(frozen):
    frozen.max_sentences = 2
    a, b, c = (torch.tensor([[2, word, 3]]) for word in (5, 6, 7))
    for ids in (a, b, a, c):  # b is the oldest when c comes
        frozen(ids)
    frozen.calls.clear()
    frozen(a)
    frozen(c)
    assert not frozen.calls
    frozen(b)
    assert len(frozen.calls) == 1


def test_off_while_tracing(frozen):
    other = torch.tensor([[2, 11, 12, 13, 3, 0]])
    frozen(IDS)
    with torch.no_grad():
        traced = torch.jit.trace(frozen, (IDS,))
    torch.testing.assert_close(traced(other), frozen.encoder(other))


def test_off_while_exporting(frozen):
    frozen(IDS)
    frozen.encoder._forward_hooks.clear()
    other = torch.tensor([[2, 11, 12, 13, 3, 0]]).expand(3, -1)
    program = torch.export.export(frozen, (IDS,)).module()
    torch.testing.assert_close(program(other), frozen.encoder(other))


def test_states_made_in_inference_mode_serve_training(frozen):
    with torch.inference_mode():
        frozen(IDS)
    layer = nn.Linear(16, 1)
    layer(frozen(IDS)).sum().backward()
    assert layer.weight.grad.any()


def test_autocast_does_not_reach_the_states(frozen):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        states = frozen(IDS)
    assert states.dtype == torch.float32
    assert torch.equal(states[:1], frozen.encoder(IDS[:1]))
