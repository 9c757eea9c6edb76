import numpy as np
import pytest
import torch
from monai.data import MetaTensor, decollate_batch, list_data_collate
from monai.engines import SupervisedEvaluator
from monai.engines.utils import PrepareBatchExtraInput

from common.errors import UserError
from common.runtime.inferer import TextInferer

IDS = torch.tensor([[2, 5, 3], [2, 6, 3]])


class Network(torch.nn.Module):
    """Remembers what it was called with."""

    def forward(self, image, text=None, prior=None):
        self.image, self.text, self.prior = image, text, prior
        logits = image * 2
        return {"pred": logits} if self.training else logits


@pytest.fixture
def network() -> Network:
    return Network().eval()


def with_meta(text, batch=2) -> MetaTensor:
    return MetaTensor(torch.rand(batch, 1, 4, 4), meta={"text": text})


def test_ids_from_the_keyword_win(network):
    TextInferer()(with_meta(IDS + 10), network, text=IDS)
    assert torch.equal(network.text, IDS)


@pytest.mark.parametrize("text", [IDS, IDS[:, None], IDS.numpy(), IDS.tolist(), MetaTensor(IDS), IDS.to(torch.int32)])
def test_ids_from_the_meta_in_any_form(network, text):
    image = with_meta(text)
    logits = TextInferer()(image, network)
    assert torch.equal(network.text, IDS)
    assert network.text.dtype == torch.int64
    for tensor in (network.image, network.text, logits):
        assert type(tensor) is torch.Tensor
    assert torch.equal(logits, image.as_tensor() * 2)


def test_without_ids_the_network_gets_none(network):
    TextInferer()(torch.rand(1, 1, 4, 4), network)
    assert network.text is None
    TextInferer()(MetaTensor(torch.rand(1, 1, 4, 4)), network)
    assert network.text is None


def test_a_network_in_train_mode_gives_its_pred(network):
    out = TextInferer()(torch.ones(1, 1, 4, 4), network.train())
    assert torch.equal(out, 2 * torch.ones(1, 1, 4, 4))


@pytest.mark.parametrize("shape", [(1, 2, 8), (1, 2, 4, 4), (1, 1, 2, 2)])
def test_what_is_no_mask_is_refused(shape):
    with pytest.raises(UserError, match="no logits of a mask"):
        TextInferer()(torch.ones(1, 1, 4, 4), lambda image, text: torch.zeros(shape))


def test_other_arguments_are_handed_on(network):
    prior = torch.rand(2, 6)
    TextInferer()(with_meta(IDS), network, prior=prior)
    assert network.prior is prior


@pytest.mark.parametrize("text", [IDS[0], IDS[:1], IDS[:1, None], IDS[0].tolist()])
def test_one_row_for_one_image(network, text):
    TextInferer()(with_meta(text, batch=1), network)
    assert torch.equal(network.text, IDS[:1])


@pytest.mark.parametrize(
    ("text", "batch"),
    [
        (torch.zeros(0, dtype=torch.int64), 2),
        (torch.tensor([2, 5, 3]), 2),
        (torch.tensor([2, 5, 6, 3]), 2),  # one row, not two of two
        (IDS.flatten(), 2),
        (torch.tensor([[2, 5, 6, 3]]), 2),
        (IDS, 1),
        (IDS[None], 1),
        (IDS, 4),
    ],
)
def test_ids_that_are_not_one_row_an_image_are_one_line(network, text, batch):
    with pytest.raises(UserError, match=rf"token ids of shape .* for {batch} images; give one row of ids") as fault:
        TextInferer()(with_meta(text, batch), network)
    assert "\n" not in str(fault.value)


def test_monai_label_hands_over_the_image_alone(network):
    """``data["image"][None].to(device)`` of one item whose last transform wrote the ids into the meta."""
    image = MetaTensor(torch.rand(1, 4, 4), meta={"text": torch.tensor([2, 5, 3])})
    TextInferer()(image[None].to("cpu"), network)
    assert torch.equal(network.text, torch.tensor([[2, 5, 3]]))


def test_collated_meta(network):
    items = [{"image": MetaTensor(torch.rand(1, 4, 4), meta={"text": ids})} for ids in IDS]
    TextInferer()(list_data_collate(items)["image"], network)
    assert torch.equal(network.text, IDS)


@pytest.mark.parametrize("extra", [True, False])
def test_in_monais_evaluator(network, extra):
    items = [{"image": MetaTensor(torch.rand(1, 4, 4), meta={"text": ids}), "label": torch.zeros(1, 4, 4), "text": ids}
             for ids in IDS]  # fmt: skip
    batch = list_data_collate(items)
    options = {"prepare_batch": PrepareBatchExtraInput({"text": "text"})} if extra else {}
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"), val_data_loader=[batch], network=network, inferer=TextInferer(), **options
    )
    evaluator.run()
    assert torch.equal(network.text, IDS)
    preds = [o["pred"] for o in evaluator.state.output]
    np.testing.assert_allclose(torch.stack(preds), batch["image"] * 2)
    assert len(decollate_batch(batch)) == 2


def test_logits_of_half_precision_are_widened():
    """Post-processing then works in single precision in the evaluator, in inferring and in ``Model`` alike."""
    image = torch.rand(1, 1, 4, 4)
    for training in (True, False):
        network = Network().train(training)
        out = TextInferer()(image.to(torch.bfloat16), network)
        assert out.dtype == torch.float32
        assert torch.equal(out, (image.to(torch.bfloat16) * 2).float())
