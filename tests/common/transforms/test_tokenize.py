import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor

from common.errors import UserError
from common.prompts import DEFAULT_PROMPT
from common.prompts.tokenizer import Tokenizer
from common.transforms import TokenizePromptd
from common.transforms.tokenize import default_text

SENTENCE = "Unilateral pulmonary infection, one infected area, lower left lung."


def test_ids_go_beside_the_image_and_into_its_meta():
    item = TokenizePromptd("text_prompt", "compact")(
        {"image": MetaTensor(torch.zeros(1, 4, 4)), "text_prompt": SENTENCE}
    )
    ids = Tokenizer.of("compact").encode(SENTENCE)
    assert item["text"].dtype == torch.int64
    assert item["text"].tolist() == item["image"].meta["text"].tolist() == ids.tolist()


def test_a_batch_has_a_row_an_image():
    sentences = [SENTENCE, DEFAULT_PROMPT["chest"]]
    data = [{"image": MetaTensor(torch.zeros(1, 4, 4)), "text_prompt": s} for s in sentences]
    batch = next(iter(DataLoader(Dataset(data, TokenizePromptd("text_prompt", "compact")), batch_size=2)))
    assert batch["text"].shape == (2, Tokenizer.of("compact").length)
    assert torch.equal(batch["text"], batch["image"].meta["text"].reshape(2, -1))


def test_a_sentence_that_is_too_long_is_named():
    with pytest.raises(UserError, match=r"^in/a\.png: sentence of \d+ tokens, but the tokeniser's rows have 48"):
        TokenizePromptd("text_prompt", "compact")({"source": "in/a.png", "text_prompt": "left lung " * 40})


def test_the_default_sentence():
    assert default_text("chest", "compact") == Tokenizer.of("compact").encode(DEFAULT_PROMPT["chest"]).tolist()
