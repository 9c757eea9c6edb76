import torch

from common.networks.image import ConvNeXt


def tiny(**kwargs) -> ConvNeXt:
    torch.manual_seed(0)
    return ConvNeXt(widths=(4, 8, 12, 16), depths=(1, 1, 2, 1), **kwargs)


def test_convnext_tiny_has_the_papers_size():
    with torch.device("meta"):
        encoder = ConvNeXt()
    assert sum(p.numel() for p in encoder.parameters()) == 27_820_128
    assert encoder.stride == 32


def test_maps_halve_from_the_stem_on():
    encoder = tiny(patch_size=2)
    maps = encoder(torch.rand(2, 1, 32, 48))
    assert [tuple(m.shape) for m in maps] == [(2, 4, 16, 24), (2, 8, 8, 12), (2, 12, 4, 6), (2, 16, 2, 3)]
    assert encoder.stride == 16
    assert encoder.pool(maps[-1]).shape == (2, 16)


def test_grey_counts_as_three_equal_channels():
    encoder, image = tiny().eval(), torch.rand(1, 1, 32, 32)
    assert torch.equal(encoder(image)[-1], encoder(image.repeat(1, 3, 1, 1))[-1])


def test_layer_scale_and_drop_path_reach_the_blocks():
    encoder = tiny(layer_scale=0.5, drop_path=0.5)
    blocks = [block for stage in encoder.stages for block in stage.layers]
    assert all((block.layer_scale_parameter == 0.5).all() for block in blocks)
    encoder.train()
    image = torch.rand(4, 1, 32, 32)
    assert not torch.equal(encoder(image)[-1], encoder(image)[-1])
