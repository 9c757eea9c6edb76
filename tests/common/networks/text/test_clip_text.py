import pytest
import torch

from common.errors import UserError
from common.networks.text.clip_text import ClipText

TINY = {"vocab_size": 30, "max_length": 10, "width": 12, "heads": 3, "layers": 2, "output_dim": 8}
IDS = torch.tensor([[28, 5, 9, 29, 0, 0], [28, 4, 7, 8, 3, 29]])


def tiny() -> ClipText:
    torch.manual_seed(0)
    return ClipText(TINY)


def test_rn101_has_openais_size_and_names():
    with torch.device("meta"):
        encoder = ClipText()
    sizes = {key: p.numel() for key, p in encoder.named_parameters()}
    assert sum(sizes.values()) == 63_428_096
    assert (encoder.width, encoder.sentence_width, encoder.vocab_size, encoder.max_length) == (512, 512, 49_408, 77)
    assert sizes.keys() >= {
        "token_embedding.weight", "positional_embedding", "transformer.resblocks.11.attn.in_proj_weight",
        "transformer.resblocks.0.attn.out_proj.bias", "transformer.resblocks.0.mlp.c_fc.weight",
        "transformer.resblocks.0.mlp.c_proj.bias", "transformer.resblocks.0.ln_1.weight", "ln_final.bias",
        "text_projection",
    }  # fmt: skip
    assert encoder.state_dict().keys() == sizes.keys()


def test_padding_changes_nothing_and_later_words_are_not_seen():
    encoder = tiny().eval()
    longer = torch.cat((IDS, torch.zeros(2, 3, dtype=torch.int64)), dim=1)
    torch.testing.assert_close(encoder.sentence(longer), encoder.sentence(IDS))
    torch.testing.assert_close(encoder(longer)[:, :, :6], encoder(IDS))
    other = IDS.clone()
    other[:, 3] = 11
    changed = (encoder(other) - encoder(IDS)).abs().amax(dim=(0, 1, 3))
    assert (changed[:3] == 0).all()
    assert (changed[3:] > 0).all()


def test_a_sentence_is_the_projected_state_of_its_last_token():
    encoder = tiny().eval()
    states = encoder(IDS)[:, 0]
    expected = torch.stack((states[0, 3], states[1, 5])) @ encoder.text_projection
    torch.testing.assert_close(encoder.sentence(IDS), expected)


def test_all_of_it_is_trained():
    encoder = tiny().train()
    encoder.sentence(IDS).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in encoder.parameters())


def test_an_unknown_architecture_is_one_line():
    with pytest.raises(UserError, match="architecture 'compact', expected one of rn101, vit-b-32, or its"):
        ClipText("compact")
