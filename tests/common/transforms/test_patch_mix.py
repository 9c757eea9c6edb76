import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UserError
from common.prompts import Findings, parse
from common.prompts.zones import count_of_mask, zones_of_mask
from common.transforms import TPatchMix, Views

SIZE = 64
COLUMNS = (0, SIZE // 2, SIZE)
ROWS = {
    "radiograph": (0, round(75 / 224 * SIZE), round(100 / 224 * SIZE), SIZE),
    "axial_ct": (0, round(0.545 * SIZE), round(0.79 * SIZE), SIZE),
}
kinds = pytest.mark.parametrize("kind", ROWS)
bits = st.tuples(*[st.integers(0, 1)] * 6).filter(any)
batches = st.tuples(st.lists(bits, min_size=2, max_size=5), st.integers(0, 999))


def views(zones, seed, doubt=False, kind="radiograph") -> Views:
    """Pictures whose value tells whose they are, and blobs where the sentence says; some pixels may be unsure."""
    rng = np.random.default_rng(seed)
    probability = np.zeros((len(zones), 1, SIZE, SIZE), np.float32)
    for i, named in enumerate(zones):
        for z, bit in enumerate(named):
            if bit:
                row, column = z % 3, z // 3
                top = rng.integers(ROWS[kind][row], max(ROWS[kind][row] + 1, ROWS[kind][row + 1] - 6))
                left = rng.integers(COLUMNS[column] + 1, COLUMNS[column + 1] - 14)
                probability[i, 0, top : top + 7, left : left + 12] = rng.uniform(0.6, 1)
    if doubt:
        probability *= rng.uniform(0.3, 1, probability.shape)
    image = torch.arange(1.0, len(zones) + 1)[:, None, None, None].expand(-1, 1, SIZE, SIZE).clone()
    sentences = [Findings("chest", named, sum(named)).caption() for named in zones]
    unchanged = torch.zeros(len(zones), dtype=torch.bool)
    return Views(image, torch.from_numpy(probability), sentences, [True] * len(zones), unchanged)


def mixed(given, seed, **options) -> Views:
    mix = TPatchMix(**{"prob": 1.0, "block": 8} | options)
    mix.set_random_state(seed)
    return mix(given)


@kinds
@pytest.mark.parametrize("mode", ["pos", "prob", "pos+prob"])
@given(batches)
def test_the_sentence_says_the_mixed_mask(mode, kind, batch):
    zones, seed = batch
    before = views(zones, seed, bool(seed % 2), kind)
    after = mixed(before, seed, mode=mode, kind=kind)
    for i in torch.nonzero(after.changed).flatten():
        target = after.probability[i, 0].numpy() >= 0.5
        said = parse(after.sentences[i], "image")
        assert said.understood
        assert said.zones == zones_of_mask(target, kind)
        assert said.count == count_of_mask(target)


@kinds
@pytest.mark.parametrize("mode", ["pos", "pos+prob"])
@given(batches)
def test_nothing_of_another_side_is_pasted(mode, kind, batch):
    """What was pasted lies in the half, and in the rows, of zones that both sentences name."""
    zones, seed = batch
    before = views(zones, seed, kind=kind)
    after = mixed(before, seed, mode=mode, kind=kind)
    for i in range(len(zones)):
        where = np.argwhere((after.image[i, 0] != i + 1).numpy())
        if not len(where):
            continue
        (owner,) = set(after.image[i, 0][after.image[i, 0] != i + 1].tolist())
        shared = [a and b for a, b in zip(zones[i], zones[int(owner) - 1], strict=True)]
        sides = {int(column >= SIZE // 2) for _, column in where}
        assert len(sides) == 1
        levels = [z % 3 for z in range(6) if shared[z] and z // 3 in sides]
        assert levels
        assert ROWS[kind][min(levels)] <= where[:, 0].min() and where[:, 0].max() < ROWS[kind][max(levels) + 1]


@pytest.mark.parametrize("mode", ["pos", "prob", "pos+prob"])
@given(batches)
def test_a_rejected_patch_changes_nothing(mode, batch):
    zones, seed = batch
    before = views(zones, seed, doubt=True)
    kept = before.image.clone(), before.probability.clone(), list(before.sentences)
    closed, after = mixed(before, seed, mode=mode, gate=1.01), mixed(before, seed, mode=mode)
    assert torch.equal(before.image, kept[0]) and torch.equal(before.probability, kept[1])
    assert before.sentences == kept[2]
    for found, same in ((closed, torch.ones(len(zones), dtype=torch.bool)), (after, ~after.changed)):
        assert torch.equal(found.image[same], kept[0][same])
        assert torch.equal(found.probability[same], kept[1][same])
        assert [s for s, k in zip(found.sentences, same, strict=True) if k] == [
            s for s, k in zip(kept[2], same, strict=True) if k
        ]
    assert not closed.changed.any()


def both(left=(0, 0, 1, 0, 0, 0), right=(0, 1, 1, 0, 0, 0)):
    """Two pictures."""
    return views([left, right], 0)


def swapping() -> int:
    """The first seed with which the two pictures of :func:`both` swap."""
    return next(seed for seed in range(20) if np.random.RandomState(seed).permutation(2)[0] == 1)


def test_mixing_equals_the_equations():
    """x̃ = (1 − M) x_i + M x_j, r = Σ M p_j / Σ M ≥ gate, p̃ = (1 − M) p_i + M p_j, pixel by pixel."""
    before, seed = both(), swapping()
    after = mixed(before, seed)
    assert after.changed.any()
    for i in torch.nonzero(after.changed).flatten().tolist():
        j, total, count = 1 - i, 0.0, 0
        for row, column in np.ndindex(SIZE, SIZE):
            taken = after.image[i, 0, row, column] == j + 1
            assert after.image[i, 0, row, column] == (j + 1 if taken else i + 1)
            assert after.probability[i, 0, row, column] == before.probability[j if taken else i, 0, row, column]
            if taken:
                total, count = total + float(before.probability[j, 0, row, column]), count + 1
        assert count <= 64 and total / count >= 0.55


def pasted_by(before, seeds, **options) -> list[np.ndarray]:
    """Where the first of two pictures got something, by seed: (n, 2) rows and columns."""
    found = (mixed(before, seed, **options) for seed in seeds)
    return [where for after in found if len(where := np.argwhere((after.image[0, 0] == 2).numpy()))]


@kinds
@pytest.mark.parametrize("mode", ["pos", "pos+prob"])
def test_patches_come_from_all_rows_of_the_hull(mode, kind):
    """Upper and lower shared: also the middle, which neither names, as the paper's hull."""
    rows, before = ROWS[kind], both((1, 0, 1, 0, 0, 0), (1, 0, 1, 0, 0, 0))
    before.probability[:] = 1
    found = pasted_by(before, range(200), mode=mode, kind=kind, block=4)
    levels = {int(np.searchsorted(rows, where[:, 0].mean(), side="right")) - 1 for where in found}
    assert levels == {0, 1, 2}
    assert max(where[:, 1].max() for where in found) < SIZE // 2


def test_the_side_is_drawn():
    before = both((0, 1, 0, 0, 1, 0), (0, 1, 0, 0, 1, 0))
    before.probability[:] = 1
    found = pasted_by(before, range(200))
    share = np.mean([where[:, 1].mean() < SIZE // 2 for where in found])
    assert len(found) > 50 and 0.3 < share < 0.7


@pytest.mark.parametrize("mode", ["prob", "pos+prob"])
def test_blocks_lie_about_confident_pixels(mode):
    """In a picture that is unsure everywhere but for one pixel, about this one."""
    before = both((0, 1, 1, 0, 0, 0), (0, 1, 1, 0, 0, 0))
    before.probability[1] = 0.5
    before.probability[1, 0, 45, 16] = 0.6
    found = pasted_by(before, range(20), mode=mode, gate=0.0)
    assert found and all(
        (where.min(axis=0) == (41, 12)).all() and (where.max(axis=0) == (48, 19)).all() for where in found
    )
    assert pasted_by(before, range(20), mode=mode, gate=0.0, confident=0.61) == []


@pytest.mark.parametrize("released", [False, True])
def test_a_default_sentence_names_no_place(released):
    """It asserts all six zones of a picture of which nobody has said anything."""
    before = both((1,) * 6, (1,) * 6)
    before.probability[:] = 1
    options = {"mode": "pos", "as_released": released, "gate": 0.0}
    assert pasted_by(before, range(20), **options)
    before.given[0] = False
    assert pasted_by(before, range(20), **options) == []
    if not released:
        before.given[:] = True, False
        assert pasted_by(before, range(20), **options) == []


def test_conflicts():
    seed = swapping()
    for left, right in (((0, 0, 1, 0, 0, 0), (0, 0, 0, 0, 0, 1)), ((1, 0, 0, 0, 0, 0), (0, 0, 1, 1, 1, 1))):
        assert not mixed(both(left, right), seed).changed.any()
    one = both()
    one.sentences[0] = "Unilateral pulmonary infection, a region of the lung."
    assert not mixed(one, seed).changed.any(), "a sentence without a zone"


def test_the_released_code_leaves_rejected_patches_in_the_picture():
    """Target and sentence know nothing of them: the defect, kept for comparison."""
    seed = swapping()
    before = both((0, 1, 1, 0, 0, 0), (0, 1, 1, 0, 0, 0))
    after = mixed(before, seed, mode="pos", as_released=True, gate=1.01)
    assert (after.image[0] != 1).any()
    assert torch.equal(after.probability, before.probability) and after.sentences == before.sentences
    assert not after.changed.any(), "what counts as mixed is the target"
    before.probability[1] = 1
    after = mixed(before, seed, mode="pos", as_released=True)
    assert (after.image[0] != 1).any() and not torch.equal(after.probability, before.probability)
    assert after.changed[0]


def test_the_released_code_joins_first_phrases():
    seed = swapping()
    after = mixed(both((0, 0, 1, 0, 0, 1), (1, 1, 0, 0, 0, 0)), seed, mode="pos", as_released=True, gate=0.0)
    assert after.sentences == [
        "Bilateral pulmonary infection, two infected areas, lower left lung and upper middle left lung and lower right "
        "lung.",
        "Unilateral pulmonary infection, two infected areas, upper middle left lung and lower left lung.",
    ]
    other = both((0, 0, 1, 0, 0, 1), (0, 0, 0, 0, 0, 1))
    found = mixed(other, seed, mode="pos", as_released=True, gate=0.0)
    assert not found.changed.any(), "left against right, though both name the right"
    assert mixed(other, seed).changed.any()


def test_faults():
    with pytest.raises(UserError, match="TPatchMix: mode 'all', expected one of pos, prob, pos\\+prob"):
        TPatchMix(mode="all")
    with pytest.raises(UserError, match="'polyp' has no left and right lung"):
        TPatchMix(kind="polyp")


@pytest.mark.real
def test_more_than_a_tenth_is_mixed_on_qata(qata_dir):
    """With the true masks for the teacher's answer, in batches of 16; the released rule's share beside it."""
    from PIL import Image

    from common.datasets import load_dataset

    rows = load_dataset("qata", qata_dir, "train", limit=160)
    masks = [np.asarray(Image.open(row["label"]).resize((112, 112))) > 127 for row in rows]
    sentences = [parse(row["text_prompt"], "image") for row in rows]
    rates = {}
    released = {"mode": "pos", "prob": 0.08, "as_released": True}
    for name, options in {"ours": {"block": 8}, "released": {"block": 8} | released}.items():
        mix, shares = TPatchMix(**options), []
        mix.set_random_state(0)
        for _ in range(5):
            for start in range(0, 160, 16):
                part = slice(start, start + 16)
                truth = torch.tensor(np.stack(masks[part]), dtype=torch.float32)[:, None]
                captions = [s.caption() if s.understood else "" for s in sentences[part]]
                captions = [c or "No pulmonary infection." for c in captions]
                found = mix(Views(truth, truth, captions, [True] * 16, torch.zeros(16)))
                shares.append((found.probability != truth).flatten(1).any(1).float().mean())
        rates[name] = float(torch.stack(shares).mean())
    print(rates)
    assert rates["ours"] > 0.1 > rates["released"]
