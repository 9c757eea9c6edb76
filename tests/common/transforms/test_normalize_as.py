import torch
from monai.transforms import NormalizeIntensityd

from common.transforms import NormalizeAsd

IMAGE = torch.rand(1, 8, 9, generator=torch.Generator().manual_seed(0))


def test_both_are_in_the_units_of_the_reference():
    d = {"image": IMAGE, "strong": IMAGE * 1.2 + 0.1, "other": IMAGE.clone()}
    found = NormalizeIntensityd("image")(NormalizeAsd(["strong", "other"], "image")(d))
    torch.testing.assert_close(found["other"], found["image"])
    torch.testing.assert_close(found["strong"], (IMAGE * 1.2 + 0.1 - IMAGE.mean()) / IMAGE.std(unbiased=False))
    assert torch.equal(d["strong"], IMAGE * 1.2 + 0.1)


def test_an_image_of_one_value():
    found = NormalizeAsd("strong", "image")({"image": torch.full((1, 2, 2), 3.0), "strong": torch.full((1, 2, 2), 3.5)})
    assert found["strong"].tolist() == [[[0.5, 0.5], [0.5, 0.5]]]
