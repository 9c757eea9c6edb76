import pytest
import torch

from common.errors import UserError
from common.networks.image.clip_resnet import AttentionPool, ClipResNet

TINY = {"layers": (1, 1, 2, 1), "width": 8, "output_dim": 64}


def tiny(**kwargs) -> ClipResNet:
    torch.manual_seed(0)
    return ClipResNet(TINY, **kwargs)


def test_rn101_has_openais_size_and_names():
    """CLIP's RN101 has 56.26 M on its picture's side; the 1×1 convolution around the attention pool comes on top."""
    with torch.device("meta"):
        encoder = ClipResNet("rn101")
    sizes = {key: p.numel() for key, p in encoder.named_parameters()}
    assert sum(n for key, n in sizes.items() if ".connect." not in key) == 56_259_936
    assert sum(n for key, n in sizes.items() if ".connect." in key) == 2048 * 512 + 2 * 512
    assert encoder.widths == (512, 1024, 512)
    assert encoder.stride == 32
    assert sizes.keys() >= {
        "conv1.weight", "bn3.bias", "layer1.0.downsample.0.weight", "layer1.0.downsample.1.bias",
        "layer3.22.conv3.weight", "layer4.2.bn3.weight", "attnpool.positional_embedding", "attnpool.q_proj.bias",
        "attnpool.c_proj.weight",
    }  # fmt: skip


@pytest.mark.parametrize(("stem_stride", "size"), [(4, (64, 96)), (2, (32, 48))])
def test_grids(stem_stride, size):
    maps = tiny(stem_stride=stem_stride)(torch.rand(2, 1, *size))
    assert [tuple(m.shape) for m in maps] == [(2, 64, 8, 12), (2, 128, 4, 6), (2, 64, 2, 3)]


def test_grey_counts_as_three_equal_channels_and_is_normalised_as_clips():
    encoder, image = tiny().eval(), torch.rand(1, 1, 64, 64)
    for ours, theirs in zip(encoder(image), encoder(image.repeat(1, 3, 1, 1)), strict=True):
        torch.testing.assert_close(ours, theirs)
    seen = []
    encoder.conv1.register_forward_hook(lambda m, args, out: seen.append(args[0]))
    encoder(torch.full((1, 1, 64, 64), 0.5))
    expected = [(0.5 - 0.48145466) / 0.26862954, (0.5 - 0.4578275) / 0.26130258, (0.5 - 0.40821073) / 0.27577711]
    torch.testing.assert_close(seen[0][0, :, 3, 4], torch.tensor(expected))
    assert not {"mean", "std"} & encoder.state_dict().keys(), "OpenAI's checkpoints do not have them"


def test_positions_fit_their_own_grid_as_they_are():
    torch.manual_seed(0)
    pool = AttentionPool(8, heads=2, output_dim=4, grid=3).eval()
    seen = []
    pool.q_proj.register_forward_hook(lambda m, args, out: seen.append(args[0]))
    pool(torch.zeros(1, 8, 3, 3))
    torch.testing.assert_close(seen[0][0], pool.positional_embedding[1:].detach())


def test_all_parameters_get_a_gradient_but_the_mean_tokens_position():
    encoder = tiny().train()
    for name, parameter in encoder.named_parameters():
        if name.endswith("bn3.weight"):
            torch.nn.init.ones_(parameter)  # at the start they are 0 and stop the gradient of their branch
    sum(m.square().mean() for m in encoder(torch.rand(4, 1, 64, 64))).backward()
    # a key's bias adds one number to all scores of a query, which softmax does not see
    without = {n for n, p in encoder.named_parameters() if p.grad is None or not p.grad.abs().max() > 1e-9}
    assert without <= {"attnpool.k_proj.bias"}
    gradient = encoder.attnpool.positional_embedding.grad
    assert not gradient[0].any()
    assert gradient[1:].any()


def test_faults_are_one_line():
    with pytest.raises(UserError, match="architecture 'rn50', expected one of rn101, small"):
        ClipResNet("rn50")
    with pytest.raises(UserError, match="stem_stride 3, expected 2 or 4"):
        tiny(stem_stride=3)
