import pytest
import torch
from transformers import BertConfig, BertModel

from common.errors import UserError
from common.networks.text import BertText

TINY = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 16,
}
IDS = torch.tensor([[2, 7, 8, 3, 0, 0], [2, 9, 3, 0, 0, 0]])


def encoder(**kwargs) -> BertText:
    torch.manual_seed(0)
    return BertText(TINY, **kwargs).eval()


def test_states_are_those_of_transformers():
    text = encoder(layers=(0, 1, 2, -1))
    reference = BertModel(BertConfig(**TINY), add_pooling_layer=False).eval()
    reference.load_state_dict(text.bert.state_dict())
    states = text(IDS)
    expected = reference(input_ids=IDS, attention_mask=(IDS != 0).long(), output_hidden_states=True).hidden_states
    assert states.shape == (2, 4, 6, 16)
    for i, layer in enumerate((0, 1, 2, 3)):
        torch.testing.assert_close(states[:, i][IDS != 0], expected[layer][IDS != 0], atol=1e-5, rtol=1e-5)


def test_words_do_not_see_padding():
    text = encoder()
    torch.testing.assert_close(text(IDS)[:, :, :4], text(IDS[:, :4]))


@pytest.mark.parametrize(("architecture", "count"), [("bert-base", 108_891_648), ("compact", 2_387_968)])
def test_sizes(architecture, count):
    """109.5 M of BERT-base are these and the pooler's 0.59 M."""
    with torch.device("meta"):
        text = BertText(architecture)
    assert sum(p.numel() for p in text.parameters()) == count
    assert (text.width, text.vocab_size, text.max_length) == {
        "bert-base": (768, 30_522, 512),
        "compact": (256, 1024, 64),
    }[architecture]


def test_trainable_with_dropout_in_train_mode():
    text = encoder(dropout=0.5).train()
    assert not torch.equal(text(IDS), text(IDS))
    text(IDS).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in text.parameters())


def test_an_unknown_architecture_is_one_line():
    with pytest.raises(UserError, match=r"architecture 'robert', expected .*compact.*bert-base"):
        BertText("robert")


def test_a_sentence_is_the_mean_over_its_tokens():
    text = encoder()
    states = text(IDS)[:, 0]
    expected = torch.stack((states[0, :4].mean(dim=0), states[1, :3].mean(dim=0)))
    torch.testing.assert_close(text.sentence(IDS), expected)
    assert text.sentence_width == 16
