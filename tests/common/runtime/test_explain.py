"""``explain``: words and their attention land where they belong, whatever way the picture is stored."""

import numpy as np
import pytest
import torch
from monai.transforms import Activationsd, AsDiscreted, Compose, Invertd, LoadImaged, NormalizeIntensityd, Resized
from PIL import Image

from common.errors import UserError
from common.images import ChestReader, write_radiograph
from common.networks.base import Insight, SegmentationNetwork, TextNetwork
from common.prompts.zones import composite_prior
from common.runtime.explain import choose, explain, group_pieces
from common.runtime.inferer import TextInferer
from common.runtime.model import Model
from common.transforms import PreparePromptd, ToDisplayd, TokenizePromptd

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "unilateral", "pulmonary", "in", "##fection", "lower", "left", "right",
          "lung", ",", "."]  # fmt: skip
SENTENCE = "Unilateral pulmonary infection, lower right lung."  # the patient's; the network gets "lower left lung."
SIZE = 32
CELLS = 4


class Pointing(TextNetwork):
    """Segments what is bright; the word "left" looks at the cell of row 3, column 0, all others everywhere alike."""

    def __init__(self):
        super().__init__(1, 1, [2, 4, 3], len(PIECES), 64)
        self.weight = torch.nn.Parameter(torch.tensor(10.0))

    def outputs(self, image, text):
        self.seen = text
        return {"pred": self.weight * (image - 1)}

    def word_attention(self, image, text=None):
        weights = torch.full((len(text), text.shape[1], CELLS, CELLS), 1 / CELLS**2)
        weights[0, text[0] == PIECES.index("left")] = 0
        weights[0, text[0] == PIECES.index("left"), 3, 0] = 1
        return weights

    def insights(self, image, text, prior):
        cell = torch.zeros(1, 1, CELLS, CELLS)
        cell[0, 0, 3, 0] = 1
        small = torch.nn.functional.interpolate(cell, image.shape[-2:])[:, 0]
        return [Insight("own", ("the prior", "the image"), torch.stack([prior, image[:, 0] > 0.5], 1), small)]


class Blind(SegmentationNetwork):
    """As it, without a sentence."""

    def __init__(self):
        super().__init__(1)
        self.weight = torch.nn.Parameter(torch.tensor(10.0))

    def outputs(self, image, text):
        return {"pred": self.weight * (image - 1)}


@pytest.fixture
def model(tmp_path):
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    made = Model.__new__(Model)
    made.grammar, made.device, made.inferer, made.network = (
        "chest",
        torch.device("cpu"),
        TextInferer(),
        Pointing().eval(),
    )
    made.preprocessing = Compose([
        LoadImaged("image", reader=ChestReader, image_only=True, ensure_channel_first=True),
        ToDisplayd("image"),
        Resized("image", (SIZE, SIZE), mode="bilinear"),
        PreparePromptd("text_prompt", "chest", "canonical"),
        NormalizeIntensityd("image"),
        TokenizePromptd("text_prompt", str(tmp_path / "words")),
    ])  # fmt: skip
    made.postprocessing = [
        Activationsd("pred", sigmoid=True),
        Invertd("pred", made.preprocessing, orig_keys="image", nearest_interp=False, to_tensor=True),
        AsDiscreted("pred", threshold=0.5),
        lambda data: data | {"pred": data["pred"][0]},
    ]
    return made


@pytest.fixture
def picture():
    """60 rows, 40 columns: bright at the lower left, where the patient's right lung ends."""
    pixels = np.full((60, 40), 40, np.uint8)
    pixels[48:58, 2:12] = 220
    return pixels


def test_a_words_map_lies_over_the_picture_in_every_storage(model, picture, tmp_path):
    Image.fromarray(picture).save(tmp_path / "a.png")
    write_radiograph(tmp_path / "b.dcm", picture, patient_orientation=("R", "F"))
    write_radiograph(tmp_path / "c.dcm", picture, patient_orientation=("F", "L"), photometric="MONOCHROME1")
    found = [explain(model, tmp_path / name, SENTENCE, "patient") for name in ("a.png", "b.dcm", "c.dcm")]
    for one in found:
        assert one.takes_text and one.cells == (CELLS, CELLS) and one.left_out == []
        assert one.result.sentence == "Unilateral pulmonary infection, lower left lung."
        assert [word for _, word, _ in one.words] == ["unilateral", "pulmonary", "infection", "lower", "left", "lung"]
        assert one.words[4] == ("infection lower", "left", "lung")
        assert one.attention.shape == (6, 60, 40)
        left = one.attention[4]
        assert left[52, 5] == pytest.approx(CELLS**2, rel=0.1)  # all of its look on one of 16 cells
        assert left[:30].max() == 0 == left[:, 25:].max()
        np.testing.assert_allclose(np.delete(one.attention, 4, axis=0), 1, atol=1e-5)
        assert one.probability[52, 6] > 0.9 > 0.1 > one.probability[10, 30]
        np.testing.assert_array_equal(one.probability > 0.5, one.result.displayed)
        np.testing.assert_allclose(one.attention, found[0].attention, atol=1e-4)


def test_a_methods_own_maps_lie_over_the_picture_in_every_storage(model, picture, tmp_path):
    """With the prior of the sentence as the network got it, in the picture's sides."""
    Image.fromarray(picture).save(tmp_path / "a.png")
    write_radiograph(tmp_path / "b.dcm", picture, patient_orientation=("R", "F"))
    write_radiograph(tmp_path / "c.dcm", picture, patient_orientation=("F", "L"))
    expected = composite_prior((0, 0, 1, 0, 0, 0), picture.shape)
    for name in ("a.png", "b.dcm", "c.dcm"):
        (own,) = explain(model, tmp_path / name, SENTENCE, "patient").insights
        assert (own.heading, own.names) == ("own", ("the prior", "the image"))
        np.testing.assert_allclose(own.values[0], expected, atol=0.05)
        assert own.values[1][52, 6] > 0.9 > 0.1 > own.values[1][10, 30]
        assert own.outline[52, 4] and own.outline.mean() == pytest.approx(1 / CELLS**2, abs=0.03)
    (own,) = explain(model, tmp_path / "a.png").insights
    assert (own.values[0] > 0.999).all(), "without a sentence no place is named"


def test_the_default_sentence_where_none_is_given(model, picture, tmp_path):
    Image.fromarray(picture).save(tmp_path / "a.png")
    found = explain(model, tmp_path / "a.png")
    assert found.result.findings is None and found.result.sentence.startswith("Bilateral")
    assert len(found.attention) == len(found.words) > 0


def test_a_network_without_attention_or_sentence(model, picture, tmp_path):
    Image.fromarray(picture).save(tmp_path / "a.png")
    model.network = Blind().eval()
    found = explain(model, tmp_path / "a.png", SENTENCE, "patient")
    assert not found.takes_text and found.words == [] and len(found.attention) == 0
    assert found.probability.shape == (60, 40) and found.result.findings is not None


def test_the_ground_truth_lies_in_the_images_stored_grid(model, picture, tmp_path):
    write_radiograph(tmp_path / "a.dcm", picture, patient_orientation=("R", "F"))
    truth = picture > 100
    Image.fromarray((truth[:, ::-1] * 255).astype(np.uint8)).save(tmp_path / "truth.png")
    found = explain(model, tmp_path / "a.dcm", SENTENCE, "patient", tmp_path / "truth.png")
    np.testing.assert_array_equal(found.truth, truth)
    Image.fromarray(np.zeros((40, 60), np.uint8)).save(tmp_path / "other.png")
    with pytest.raises(UserError, match=r"other.png: the mask is 60 x 40 pixels, its image 40 x 60; give a mask"):
        explain(model, tmp_path / "a.dcm", SENTENCE, "patient", tmp_path / "other.png")


def test_pieces_are_joined_to_words():
    tokens = ["[CLS]", "in", "##fec", "##tion", ",", "lower", "[UNK]", ".", "[SEP]"]
    assert group_pieces(tokens) == [("infection", [1, 2, 3]), ("lower", [5])]


def test_positions_come_first_when_there_are_too_many_words():
    sentence = "bilateral pulmonary infection two infected areas lower left lung and middle lower right lung"
    words = sentence.split()
    assert [words[i] for i in choose(words, 13)] == [w for w in words if w != "and"]
    few = [words[i] for i in choose(words, 8)]
    assert few == ["bilateral", "pulmonary", "two", "lower", "left", "middle", "lower", "right"]
