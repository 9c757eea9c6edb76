"""The loader of weak and strong views, on small arrays."""

import pytest
import torch
from monai.data import CacheDataset
from monai.data.utils import set_rnd
from monai.transforms import Lambdad, RandLambdad, RandZoomd

from common.engines import unlabelled_loader

ROWS = [{"image": torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(n)) + n, "text_prompt": str(n)}
        for n in range(7)]  # fmt: skip


def loader(rows=ROWS, weak=(), strong=(), final=(), batch_size=3, **options):
    return unlabelled_loader(rows, [Lambdad("image", lambda x: x * 2)], weak, strong, final, batch_size, **options)


def test_the_strong_view_is_made_of_the_weak_one():
    zoom = RandZoomd("image", prob=1.0, min_zoom=1.3, max_zoom=1.9)
    batches = list(loader(weak=[zoom]))
    assert [len(batch["strong"]) for batch in batches] == [3, 3], "the last, smaller one is dropped"
    for batch in batches:
        assert torch.equal(batch["image"], batch["strong"])
        for image, number in zip(batch["image"], batch["text_prompt"], strict=True):
            assert not torch.equal(image, ROWS[int(number)]["image"] * 2), "zoomed"


def test_strong_transforms_leave_the_weak_view_alone():
    strong = [RandLambdad("strong", lambda x: x + 1)]
    for batch in loader(strong=strong, final=[Lambdad(["image", "strong"], lambda x: x * 10)]):
        for image, other, number in zip(batch["image"], batch["strong"], batch["text_prompt"], strict=True):
            torch.testing.assert_close(image, ROWS[int(number)]["image"] * 20)
            torch.testing.assert_close(other, (ROWS[int(number)]["image"] * 2 + 1) * 10)


def test_each_image_once_in_an_order_of_the_generator():
    seen = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        seen.append([number for batch in loader(batch_size=1) for number in batch["text_prompt"]])
    assert seen[0] == seen[1] != seen[2]
    assert sorted(seen[2]) == [row["text_prompt"] for row in ROWS]


def test_fewer_rows_than_a_batch_are_one():
    (batch,) = loader(ROWS[:2])
    assert len(batch["image"]) == 2


def test_no_rows_no_loader():
    assert loader([]) is None


@pytest.mark.parametrize("cache", [True, False])
def test_with_and_without_a_cache_the_views_are_the_same(cache):
    found = loader(weak=[RandZoomd("image", prob=1.0, min_zoom=1.3, max_zoom=1.9)], cache=cache)
    assert isinstance(found.dataset, CacheDataset) is cache
    set_rnd(found.dataset, 0)
    other = loader(weak=[RandZoomd("image", prob=1.0, min_zoom=1.3, max_zoom=1.9)])
    set_rnd(other.dataset, 0)
    assert torch.equal(found.dataset[3]["image"], other.dataset[3]["image"])


def test_several_processes_share_out_the_rows_by_the_seed(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1)
    try:
        orders = [[n for batch in loader(batch_size=1, seed=seed) for n in batch["text_prompt"]] for seed in (0, 0, 1)]
    finally:
        torch.distributed.destroy_process_group()
    assert orders[0] == orders[1] != orders[2]
