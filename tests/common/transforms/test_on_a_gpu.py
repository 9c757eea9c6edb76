"""Transforms on data on a GPU, by a device that only pretends to be one: no array, nothing mixed, same values."""

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor, list_data_collate
from monai.transforms import RandomizableTransform

from common.datasets import phantoms
from common.transforms import (
    CutMix,
    LowDoseNoised,
    MirrorViews,
    MotionBlurd,
    NormalizeAsd,
    PositionPriord,
    RandLowDoseNoised,
    RandMirrorPromptd,
    RandMotionBlurd,
    TPatchMix,
    Views,
)
from tests.bundles.base import BUNDLES, Bundle
from tests.common.far import FarDevice, is_far

SENTENCE = "Bilateral pulmonary infection, two infected areas, lower left lung and lower right lung."


def item(**more):
    generator = torch.Generator().manual_seed(0)
    image, label = (torch.rand(1, 32, 32, generator=generator) for _ in range(2))
    found = {"image": MetaTensor(image, meta={"filename_or_obj": "a.png"}), "label": MetaTensor((label > 0.5).float())}
    return found | {"text_prompt": SENTENCE, "prompt_used": "given"} | more


def test_the_device_has_the_rules_of_a_gpu():
    """Else the tests below say nothing."""
    with FarDevice():
        here, there = torch.ones(3), torch.ones(3).to("cuda")
        assert (here.device.type, there.device.type, there.is_cuda, (there + 1).device.type) == (
            "cpu",
            "cuda",
            True,
            "cuda",
        )
        for wrong in (there.numpy, lambda: np.asarray(there), lambda: torch.from_numpy(np.array(there))):
            with pytest.raises(TypeError, match="to numpy"):
                wrong()
        for wrong in (lambda: here + there, lambda: torch.cat([here, there]), lambda: torch.stack([there, here])):
            with pytest.raises(RuntimeError, match="same device"):
                wrong()
        assert (there.cpu().device.type, there.to("cpu").numpy().sum()) == ("cpu", 3)
        assert torch.zeros(2, device=there.device).is_cuda
        assert there[torch.tensor([0])].is_cuda
        assert (there * torch.tensor(2.0)).is_cuda, "a number goes along"
        assert MetaTensor(there).is_cuda
        assert not torch.ones(1).is_cuda


@pytest.mark.parametrize(
    "transform",
    [
        RandMirrorPromptd(["image", "label"], prob=1.0), PositionPriord("text_prompt", "chest"),
        RandLowDoseNoised("image", prob=1.0), RandMotionBlurd("image", prob=1.0), LowDoseNoised("image", 120),
        MotionBlurd("image", 5), NormalizeAsd("label", "image"),
    ],
    ids=lambda transform: type(transform).__name__,
)  # fmt: skip
def test_ours(transform):
    """As on the CPU, and the result where the image is."""
    results = []
    for device in ("cpu", "cuda"):
        if isinstance(transform, RandomizableTransform):
            transform.set_random_state(3)
        with FarDevice():
            data = item()
            moved = {key: data[key].to(device) for key in ("image", "label")}
            results.append(transform(data | moved))
            tensors = {key: value for key, value in results[-1].items() if isinstance(value, torch.Tensor)}
            assert {key: is_far(value) for key, value in tensors.items()} == dict.fromkeys(tensors, device == "cuda")
    for key in tensors:
        assert torch.equal(torch.Tensor(results[0][key]), torch.Tensor(results[1][key])), key


@pytest.mark.parametrize("mixing", [TPatchMix(prob=1.0, block=8, gate=0.0), CutMix(prob=1.0), MirrorViews(prob=1.0)])
def test_augmentations_of_a_batch(mixing):
    results = []
    for device in ("cpu", "cuda"):
        generator = torch.Generator().manual_seed(0)
        image, probability = (torch.rand(4, 1, 32, 32, generator=generator) for _ in range(2))
        mixing.set_random_state(1)
        with FarDevice():
            views = mixing(
                Views(image.to(device), probability.to(device), [SENTENCE] * 4, [True] * 4, torch.zeros(4, dtype=bool))
            )
            assert [is_far(x) for x in (views.image, views.probability)] == [device == "cuda"] * 2
            assert not is_far(views.changed)
        results.append(views)
    assert torch.equal(results[0].image, results[1].image)
    assert results[0].changed.any()
    assert not torch.equal(results[0].image, image)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantoms")
    phantoms.write(root, count=20, size=64, seed=1, inbox=0)
    return root


def surely(dataset):
    """Every random transform happens."""
    for transform in dataset.transform.flatten().transforms:
        if isinstance(transform, RandomizableTransform):
            transform.prob = 1.0
            for inner in vars(transform).values():
                if isinstance(inner, RandomizableTransform):
                    inner.prob = 1.0
    return dataset


@pytest.mark.parametrize("name", BUNDLES)
def test_the_chains_of_a_bundle(name, data):
    """From the cache, which lies on the device, to the batch: same numbers, all of them on the device."""
    batches = {}
    for device in ("cpu", "cuda"):
        parser = ConfigParser()
        parser.read_config(Bundle(name).files("train", "demo", "gpu"))
        parser.update({"dataset_dir": str(data), "image_size": [64, 64], "device": f"$torch.device('{device}')"})
        # in this thread: the pretence is none of others
        parser.update({"train::dataset::cache_num": 0, "validate::dataset::cache_num": 0})
        parts = {"train::dataset", "validate::dataset"}
        if "unlabelled" in parser["train"]["trainer"]:
            parser["train::trainer::unlabelled::cache"] = False
            parser["train::trainer::unlabelled::data::fraction"] = 0.5
            parts.add("train::trainer::unlabelled")
        for part in parts:
            dataset = parser.get_parsed_content(part)
            dataset = surely(getattr(dataset, "dataset", dataset))
            dataset.transform.set_random_state(5)
            with FarDevice():
                batch = list_data_collate([dataset[number] for number in range(2)])
            batches[part, device] = {key: value for key, value in batch.items() if isinstance(value, torch.Tensor)}
    for part in parts:
        near, far = (batches[part, device] for device in ("cpu", "cuda"))
        assert [key for key in far if is_far(far[key])] == [key for key in far if key != "text"] != []
        for key in near:
            assert torch.equal(near[key], far[key]), (part, key)
            assert not any(map(is_far, near.values()))
