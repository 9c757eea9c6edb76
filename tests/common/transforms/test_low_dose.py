import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import DataLoader, Dataset, MetaTensor
from monai.transforms import Compose, EnsureChannelFirstd, Invertd, LoadImaged, Resized
from PIL import Image

from common.errors import UserError, user_error
from common.images import ChestReader
from common.transforms import LowDoseNoised, ToDisplayd
from common.transforms.file_random import random_of_file
from common.transforms.low_dose import low_dose, poisson_quantile

DOSES = (140, 120, 110)


def flat(x, name="a.png", side=256, channels=1):
    return {"image": MetaTensor(torch.full((channels, side, side), float(x)), meta={"filename_or_obj": name})}


def noisy(x, dose, **more):
    return LowDoseNoised("image", dose)(flat(x, **more))["image"].numpy()


def chances(mean):
    """P(N = k) for k = 0, 1, ... of a Poisson distribution, by its definition."""
    found = [math.exp(-mean)]
    while len(found) < mean + 12 * math.sqrt(mean) + 40:
        found.append(found[-1] * mean / len(found))
    return found


@given(st.floats(0, 150), st.floats(0, 1 - 1e-9))
def test_quantile_is_the_least_count_that_reaches_the_share(mean, share):
    found = int(poisson_quantile(np.array([share]), np.array([mean]))[0])
    assert sum(chances(mean)[:found]) < share + 1e-9
    assert sum(chances(mean)[: found + 1]) > share - 1e-9


@pytest.mark.parametrize("dose", DOSES)
@pytest.mark.parametrize("x", [0.05, 0.3, 0.5, 0.7])
def test_mean_and_variance_are_those_of_photons(dose, x):
    found = noisy(x, dose).astype(float)
    assert found.mean() == pytest.approx(x, abs=4 * math.sqrt(x / dose) / 256)
    # four standard errors of a variance of 65,536 numbers, with the excess kurtosis 1 / mean
    assert found.var() == pytest.approx(x / dose, rel=4 * math.sqrt((2 + 1 / (x * dose)) / 256**2))
    counts = found * dose
    assert np.allclose(counts, counts.round(), atol=1e-4)


@pytest.mark.parametrize("dose", DOSES)
def test_white_is_clipped_and_black_stays_black(dose):
    found = noisy(1.0, dose)
    expected = sum(min(count / dose, 1) * chance for count, chance in enumerate(chances(dose)))
    assert found.max() == 1 and 0.4 < (found == 1).mean() < 0.6
    assert found.mean() == pytest.approx(expected, abs=4 * 0.5 / math.sqrt(dose) / 256)
    assert (noisy(0.0, dose) == 0).all()


def test_pixels_are_independent():
    found = noisy(0.5, 140)[0] - 0.5
    for shifted in (found[1:, :] * found[:-1, :], found[:, 1:] * found[:, :-1], found[1:, 1:] * found[:-1, :-1]):
        assert abs(shifted.mean() / found.var()) < 4 / 256


def test_a_lower_dose_is_noisier_everywhere_and_of_the_same_field():
    errors = [noisy(0.5, dose) - 0.5 for dose in DOSES]
    assert errors[0].std() < errors[1].std() < errors[2].std()
    assert np.corrcoef(errors[0].ravel(), errors[2].ravel())[0, 1] > 0.98


def test_the_last_digits_of_a_picture_shift_no_noise():
    """Another machine's resize differs by rounding: pixels on an edge may gain a photon, none more."""
    picture = torch.rand(1, 64, 64, generator=torch.Generator().manual_seed(0)).clamp(0.01, 0.99)
    field = np.random.RandomState(0).random_sample((64, 64))
    one, two = (low_dose(p, 140, field) for p in (picture, picture * (1 + 2e-7)))
    assert ((one - two).abs() > 1e-6).sum() <= 1 and (one - two).abs().max() < 1.5 / 140


def test_files_have_fields_of_their_own_and_channels_share_one():
    assert np.array_equal(noisy(0.5, 140, name="/one/a.png"), noisy(0.5, 140, name="/two/a.png"))
    assert abs(np.corrcoef(noisy(0.5, 140).ravel(), noisy(0.5, 140, name="b.png").ravel())[0, 1]) < 4 / 256
    colour = noisy(0.5, 140, channels=3)
    assert np.array_equal(colour[0], colour[1]) and np.array_equal(colour[0], noisy(0.5, 140)[0])


def test_each_pixel_takes_the_next_number_of_its_file_row_by_row():
    item = {"image": MetaTensor(torch.tensor([[[0.1, 0.9, 0.4], [0.7, 0.2, 0.5]]]), meta={"filename_or_obj": "a.png"})}
    numbers = iter(random_of_file(item["image"], "low dose").random_sample(6))
    found = LowDoseNoised("image", 110)(item)["image"].numpy()
    for row in range(2):
        for column in range(3):
            share, below = next(numbers), chances(110 * item["image"][0, row, column].item())
            count = next(k for k in range(len(below)) if sum(below[: k + 1]) >= share)
            assert found[0, row, column] == pytest.approx(min(count / 110, 1))


@pytest.mark.parametrize("bad", [-0.5, 1.5])
def test_a_picture_behind_the_normalisation_is_refused(bad):
    item = flat(0.5)
    item["image"][0, 0, 0] = bad
    with pytest.raises(UserError, match=r"low dose: wants a picture in \[0, 1\], this one is in \[.*before the norm"):
        LowDoseNoised("image", 140)(item)


@pytest.fixture
def files(tmp_path):
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 255, (20 + number, 24), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    return [{"image": str(path)} for path in sorted(tmp_path.glob("*.png"))]


def chain():
    return Compose([
        LoadImaged("image", reader=ChestReader), EnsureChannelFirstd("image"), ToDisplayd("image"),
        Resized("image", (16, 16)), LowDoseNoised("image", 120),
    ])  # fmt: skip


def test_workers_batches_and_order_do_not_matter(files):
    found = []
    for items, options in (
        (files, {"batch_size": 1}),
        (files[::-1], {"batch_size": 4, "num_workers": 2}),
        (files, {"batch_size": 3, "shuffle": True}),
    ):
        np.random.seed(len(found))
        torch.manual_seed(len(found))
        pictures = {}
        for batch in DataLoader(Dataset(items, chain()), **options):
            for image, name in zip(batch["image"], batch["image"].meta["filename_or_obj"], strict=True):
                pictures[name] = image.as_tensor()
        found.append(pictures)
    for other in found[1:]:
        assert other.keys() == found[0].keys()
        assert all(torch.equal(other[name], found[0][name]) for name in other)


def test_the_way_back_to_the_stored_grid_stays(files):
    steps = chain()
    item = steps(files[3])
    item["pred"] = item["image"].clone()
    assert isinstance(item["image"], MetaTensor) and item["image"].dtype == torch.float32
    assert Invertd("pred", steps, "image")(item)["pred"].shape == (1, 24, 23)


def test_in_a_pipeline_the_refusal_is_one_line(files):
    steps = Compose([*chain().transforms[:-1], lambda d: d | {"image": d["image"] * 4 - 2}, chain().transforms[-1]])
    with pytest.raises(RuntimeError) as fault:
        steps(files[0])
    assert str(user_error(fault.value)).startswith("low dose: wants a picture in [0, 1]")
