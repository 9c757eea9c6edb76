"""What leaves the network before export, and what is refused in a graph."""

import io

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from common.errors import UserError
from common.networks.base import SegmentationNetwork
from common.networks.image import ConvNeXt
from common.networks.mmi_unet import MMIUNet
from common.networks.text import BertText
from common.runtime.export.formats import Exporter
from common.runtime.export.network import check_onnx, check_program, check_script, deployed, tensors, traced
from common.runtime.export.parity import measure
from common.runtime.export.table import TableNetwork

TEXT = {
    "vocab_size": 50, "hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12,
    "max_position_embeddings": 16,
}  # fmt: skip
DEFAULT = torch.tensor([[2, 5, 6, 3]])
SENTENCES = [[2, 3], [2, 7, 3], [2, 8, 9, 3], [2, 5, 6, 3], [2, *range(10, 24), 3]]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    image = ConvNeXt(widths=(8, 12, 16, 20), depths=(1, 1, 1, 1), patch_size=2, layer_scale=1.0)
    return MMIUNet(image, BertText(TEXT), default_text=DEFAULT[0].tolist(), heads=2, feedforward=6, dropout=0.1).eval()


def images(batch, seed=1):
    return torch.randn(batch, 1, 32, 32, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def example():
    return images(2, seed=0), DEFAULT.expand(2, -1).clone()


@pytest.fixture(scope="module")
def exporter(network, example):
    return Exporter(network, example, network.default_text, 16)


@pytest.fixture(scope="module")
def files(exporter, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    for kind in ("ts", "pt2", "onnx"):
        exporter.write(kind, folder / f"model.{kind}", {"export.json": "{}"})
    return folder


def session(path):
    import onnxruntime

    opened = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda image, text: torch.from_numpy(opened.run(None, {"image": image.numpy(), "text": text.numpy()})[0])


def test_what_only_training_needs_leaves(network, exporter):
    """By the paper's wiring the words of the last Bridger and ConvNeXt's last norm reach no logit."""
    documented = ("bridgers.3.text_interactor.", "bridgers.3.text_out.", "image_encoder.model.layernorm.")
    names = {name for name, _ in network.named_parameters()}
    assert {name for name in exporter.removed if name in names} == {n for n in names if n.startswith(documented)}
    assert not any(isinstance(module, nn.Dropout) for module in exporter.network.modules())
    assert any(isinstance(module, nn.Dropout) for module in network.modules()), "the trained network is not changed"


def test_what_stays_is_what_a_gradient_reaches(network, example, exporter):
    copied = deployed(network, example)
    kept = dict(copied.named_parameters())
    for parameter in kept.values():
        parameter.requires_grad_(True)
    text = copied.text_encoder
    text.forward = text.encoder.forward  # remembers nothing, computes with gradients
    copied(*example).square().mean().backward()
    assert {name for name, p in kept.items() if p.grad is None} == set()


def test_graphs_hold_the_kept_parameters_alone(files, exporter):
    script = torch.jit.load(str(files / "model.ts"))
    names = {name.removeprefix("network.") for name in script.state_dict()} - {"default_text"}
    assert names <= exporter.kept.keys()
    assert {n for n in exporter.kept if "bert" not in n} <= names
    program = torch.export.load(str(files / "model.pt2"))
    assert program.state_dict.keys() <= exporter.kept.keys()
    assert not any("text_interactor" in name and "bridgers.3" in name for name in program.constants)
    model = onnx.load(str(files / "model.onnx"))
    assert not {tensor.name for tensor in model.graph.initializer} & exporter.removed
    assert [(entry.domain, entry.version >= 18) for entry in model.opset_import] == [("", True)]
    onnx.checker.check_model(model, full_check=True)


def test_all_formats_compute_the_same(network, files):
    program = torch.export.load(str(files / "model.pt2")).module()
    script = torch.jit.load(str(files / "model.ts"))
    for name, call in (("pt2", program), ("ts", script), ("onnx", session(files / "model.onnx"))):
        found = measure(name, network, call, images(3), SENTENCES, 0.5, name == "ts")
        assert found["largest difference of a logit"] <= found["tolerance"] < 2e-3
        assert found["tokens of the sentences"] == [2, 3, 4, 4, 16]
        assert {1, 5} <= set(found["batch sizes"])


def test_names_of_free_dimensions(files):
    graph = onnx.load(str(files / "model.onnx")).graph
    shapes = {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
              for v in (*graph.input, *graph.output)}  # fmt: skip
    assert shapes == {"image": ["batch", 1, 32, 32], "text": ["batch", "length"], "pred": ["batch", 1, 32, 32]}


def test_the_image_alone_means_the_default_sentence(network, files):
    script = torch.jit.load(str(files / "model.ts"))
    with torch.no_grad():
        torch.testing.assert_close(script(images(3)), network(images(3), DEFAULT.expand(3, -1)))


def test_parity_refuses_other_logits_and_a_deaf_file(network):
    with torch.no_grad():
        with pytest.raises(UserError, match=r"model\.ts: its logits differ from the network's by up to 0\.0[12]"):
            measure("model.ts", network, lambda *call: network(*call) + 0.01, images(3), SENTENCES, 0.5, False)
        with pytest.raises(UserError, match="logits differ"):
            measure("x", network, lambda *call: network(*call) * float("nan"), images(3), SENTENCES, 0.5, False)

    def deaf(image, text):
        return network(image, torch.tensor([SENTENCES[1]]).expand(len(image), -1))

    with torch.no_grad(), pytest.raises(UserError, match="logits differ"):
        measure("x", network, deaf, images(3), SENTENCES, 0.5, False)


class _Careless(SegmentationNetwork):
    """Drops out although it does not train."""

    def __init__(self):
        super().__init__(1)
        self.conv = nn.Conv2d(1, 1, 1)

    def outputs(self, image, text):
        return {"pred": nn.functional.dropout(self.conv(image), 0.5, training=True)}


def test_dropout_in_a_graph_is_refused(tmp_path):
    exporter = Exporter(_Careless().eval(), (images(2),))
    for kind in ("ts", "pt2"):
        with pytest.raises(UserError, match=rf"model\.{kind}: the node dropout is of training only; leave it out"):
            exporter.write(kind, tmp_path / f"model.{kind}", {})
    assert list(tmp_path.iterdir()) == []


def test_parameters_of_training_in_a_graph_are_refused(network, example):
    script = torch.jit.script(nn.Sequential(traced(nn.Conv2d(1, 1, 1), (images(2),))))
    with pytest.raises(UserError, match=r"model\.ts: the parameter weight is of training only"):
        check_script(script, {"bias"}, "0.")
    program = torch.export.export(nn.Conv2d(1, 1, 1), (images(2),))
    with pytest.raises(UserError, match=r"model\.pt2: the parameter bias is of training only"):
        check_program(program, {"weight"})


def small_onnx(op="Relu", domain="", **attributes):
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy"]
    node = helper.make_node(op, ["x"], ["y"], domain=domain, **attributes)
    held = helper.make_tensor("w", TensorProto.FLOAT, [4], [0.0] * 4)
    graph = helper.make_graph([node], "g", value[:1], value[1:], [held])
    opsets = [helper.make_opsetid("", 20), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def test_onnx_of_other_operators_or_parts_of_training_is_refused():
    kept = {"w": torch.zeros(4)}
    check_onnx(small_onnx(), kept, set())
    with pytest.raises(UserError, match=r"operators of com\.microsoft, which other runtimes do not have"):
        check_onnx(small_onnx("FastGelu", "com.microsoft"), kept, set())
    with pytest.raises(UserError, match="the node Dropout is of training only"):
        check_onnx(small_onnx("Dropout"), kept, set())
    with pytest.raises(UserError, match="the node RandomUniformLike is of training only"):
        check_onnx(small_onnx("RandomUniformLike"), kept, set())
    with pytest.raises(UserError, match="the parameter w is of training only"):
        check_onnx(small_onnx(), {}, {"w"})
    with pytest.raises(UserError, match="the checker refuses it"):
        check_onnx(small_onnx("NoSuchThing"), kept, set())
    large = small_onnx()
    large.graph.initializer.append(helper.make_tensor("val_1", TensorProto.FLOAT, [30_000], [0.0] * 30_000))
    with pytest.raises(UserError, match="holds 30004 numbers, the network 4; something of training"):
        check_onnx(large, kept, set())


def test_a_table_gives_the_same_and_no_mask_for_other_sentences(network, tmp_path):
    listed = [[2, 7, 3], [2, 8, 9, 3], [2, 5, 6, 3], [2, 3], [2, 8, 9, 10, 11, 3]]
    table = TableNetwork(network, listed)
    assert not any("bert" in name for name, _ in tensors(table))
    ids = torch.zeros(2, 9, dtype=torch.int64)
    ids[0, :3], ids[1, :6] = torch.tensor(listed[0]), torch.tensor(listed[4])
    strange = torch.tensor([[2, 9, 8, 3, 0, 0, 0, 0], [2, 8, 9, 10, 11, 3, 12, 3]])
    short = torch.tensor([[2, 3], [2, 0]])
    exporter = Exporter(table, (images(2), torch.tensor([listed[2]] * 2)), network.default_text, 16)
    exporter.write("ts", tmp_path / "t.ts", {})
    with torch.no_grad():
        for call in (table, torch.jit.load(str(tmp_path / "t.ts"))):
            torch.testing.assert_close(call(images(2), ids), network(images(2), ids), atol=1e-5, rtol=1e-5)
            assert call(images(2), strange).isnan().all(), "another order; one that begins like a longer one"
            assert call(images(2), short).isnan().flatten(1).all(1).tolist() == [False, True]
            assert not call(images(2), short)[0].isnan().any()


def test_a_table_needs_a_text_encoder():
    with pytest.raises(UserError, match="the bundle's network has no text encoder"):
        TableNetwork(_Careless(), [[2, 3]])


def test_texts_are_inside(files):
    texts = {"export.json": ""}
    torch.jit.load(str(files / "model.ts"), _extra_files=texts)
    assert texts["export.json"] == b"{}"
    assert {entry.key: entry.value for entry in onnx.load(str(files / "model.onnx")).metadata_props} == {
        "export.json": "{}"
    }
    texts = {"export.json": ""}
    torch.export.load(io.BytesIO((files / "model.pt2").read_bytes()), extra_files=texts)
    assert texts["export.json"] == "{}"
