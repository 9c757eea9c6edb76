"""Which file, which provider, and what an exported network refuses."""

import importlib.util
import json
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from common.errors import UserError
from common.files import sha256_of
from common.runtime.backends import Onnx, exported_file, is_exported, open_exported, providers, read_inside

FACTS = {
    "inputs": {
        "image": {"shape": ["batch", 1, 8, 8], "dtype": "float32"},
        "text": {"shape": ["batch", "length"], "dtype": "int64", "padding": 0, "longest": 6, "ids_below": 10},
    },
    "sentence": {"default_ids": [2, 5, 3], "length": 6},
    "weights": {"file": "model.pt", "sha256": ""},
}


def write(path, facts=FACTS, inside=True):
    """A network that adds the mean id to the image; a sentence that begins with 9 gives NaN."""
    names = {"image": TensorProto.FLOAT, "text": TensorProto.INT64}
    shapes = {"image": ["batch", 1, 8, 8], "text": ["batch", "length"]}
    inputs = [helper.make_tensor_value_info(n, kind, shapes[n]) for n, kind in names.items() if n in facts["inputs"]]
    output = helper.make_tensor_value_info("pred", TensorProto.FLOAT, shapes["image"])
    nodes = [helper.make_node("Identity", ["image"], ["pred"])]
    held = []
    if "text" in facts["inputs"]:
        held = [numpy_helper.from_array(np.array(value), name) for name, value in
                (("shape", [-1, 1, 1, 1]), ("first", [0]), ("one", [1]), ("zero", [0]))]  # fmt: skip
        held.append(numpy_helper.from_array(np.float32(9), "nine"))
        held.append(numpy_helper.from_array(np.float32("nan"), "nan"))
        nodes = [
            helper.make_node("Cast", ["text"], ["words"], to=TensorProto.FLOAT),
            helper.make_node("Slice", ["words", "first", "one", "one"], ["begin"]),
            helper.make_node("Reshape", ["begin", "shape"], ["start"]),
            helper.make_node("Equal", ["start", "nine"], ["strange"]),
            helper.make_node("ReduceMean", ["words", "one"], ["mean"], keepdims=1),
            helper.make_node("Reshape", ["mean", "shape"], ["level"]),
            helper.make_node("Add", ["image", "level"], ["sum"]),
            helper.make_node("Where", ["strange", "nan", "sum"], ["pred"]),
        ]
    graph = helper.make_graph(nodes, "g", inputs, [output], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    if inside:
        entry = model.metadata_props.add()
        entry.key, entry.value = "export.json", json.dumps(facts)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def network(tmp_path):
    return open_exported(write(tmp_path / "model.onnx"))


def image(batch=2):
    return torch.zeros(batch, 1, 8, 8)


def test_it_computes_with_a_sentence_and_with_the_default(network):
    assert isinstance(network, Onnx)
    assert network(image(), torch.tensor([[2, 4], [2, 2]]))[:, 0, 0, 0].tolist() == [3, 2]
    assert network(image(3))[:, 0, 0, 0].tolist() == pytest.approx([10 / 3] * 3)


def test_a_network_without_text_ignores_a_sentence(tmp_path):
    facts = {**FACTS, "inputs": {"image": FACTS["inputs"]["image"]}, "sentence": {}}
    network = open_exported(write(tmp_path / "model.onnx", facts))
    assert network(image(), torch.tensor([[2, 4]] * 2)).shape == (2, 1, 8, 8)
    assert network.takes_text is False


@pytest.mark.parametrize(
    ("shape", "ids", "words"),
    [
        ((1, 1, 8, 9), [[2]], r"images of shape \(1, 1, 8, 9\), but it was made for \(batch, 1, 8, 8\); export again"),
        ((1, 3, 8, 8), [[2]], r"images of shape \(1, 3, 8, 8\)"),
        ((1, 8, 8), [[2]], r"images of shape \(1, 8, 8\)"),
        ((2, 1, 8, 8), [[2]], r"token ids are torch\.int64 of shape \(1, 1\), expected torch\.int64 of shape \(2, at"),
        ((1, 1, 8, 8), [[2.0]], "token ids are torch.float32"),
        ((1, 1, 8, 8), [[2] * 7], r"of shape \(1, 7\), expected torch\.int64 of shape \(1, at most 6\)"),
        ((1, 1, 8, 8), [[2, 10]], "token ids from 2 to 10, but it knows 0 to 9"),
        ((1, 1, 8, 8), [[2, -1]], "token ids from -1 to 2"),
        ((2, 1, 8, 8), [[2, 3], [0, 0]], "no sentence of 0 alone"),
    ],
)
def test_inputs_that_do_not_fit_are_one_line(network, shape, ids, words):
    with pytest.raises(UserError, match=words) as fault:
        network(torch.zeros(shape), torch.tensor(ids))
    assert "\n" not in str(fault.value)


def test_a_sentence_that_is_not_in_the_table_is_refused(tmp_path):
    facts = {**FACTS, "sentence": {**FACTS["sentence"], "table": ["No infection.", "Left.", "Right."]}}
    network = open_exported(write(tmp_path / "model.onnx", facts))
    assert network(image(1), torch.tensor([[2, 4]])).isfinite().all()
    with pytest.raises(UserError, match=r"its table of 3 sentences does not hold this one; .* such as 'Left\.'"):
        network(image(2), torch.tensor([[2, 4], [9, 4]]))


def test_files_that_cannot_be_used_are_one_line(tmp_path):
    other = write(tmp_path / "other.onnx", inside=False)
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    (tmp_path / "broken.ts").write_bytes(b"no model")
    for path in (other, tmp_path / "broken.onnx", tmp_path / "broken.ts"):
        with pytest.raises(UserError, match="is no export of this package") as fault:
            open_exported(path)
        assert "\n" not in str(fault.value)
    with pytest.raises(UserError, match=r"none\.onnx: is not there; write it with python -m tools export"):
        read_inside(tmp_path / "none.onnx")


def test_an_export_of_older_weights_is_refused(tmp_path):
    weights = tmp_path / "model.pt"
    weights.write_bytes(b"one")
    facts = {**FACTS, "weights": {"file": "model.pt", "sha256": sha256_of(weights)}}
    path = write(tmp_path / "model.onnx", facts)
    open_exported(path)
    weights.write_bytes(b"two")
    with pytest.raises(UserError, match=r"model\.onnx: was exported of other weights than model\.pt beside it"):
        open_exported(path)
    weights.unlink()
    open_exported(path)


def test_which_file(tmp_path):
    weights = tmp_path / "model.pt"
    assert exported_file(weights, "torch") == weights
    with pytest.raises(UserError, match=r"model\.onnx: is not there; write it with python -m tools export, or leave"):
        exported_file(weights, "onnx")
    for name in ("model.onnx", "model_int8.onnx", "model.ts"):
        (tmp_path / name).touch()
    assert exported_file(weights, "onnx").name == "model.onnx"
    assert exported_file(tmp_path / "model_int8.onnx", "onnx").name == "model_int8.onnx"
    assert exported_file(weights, "torchscript").name == "model.ts"
    with pytest.raises(UserError, match=r"model_int8\.pt: is not there"):
        exported_file(tmp_path / "model_int8.onnx", "torch")
    with pytest.raises(UserError, match="--backend tensorrt: is unknown; write one of torch, torchscript, onnx"):
        exported_file(weights, "tensorrt")
    assert [is_exported(name) for name in ("model.pt", "model.ts", "model.onnx")] == [False, True, True]


def names(found):
    return [one if isinstance(one, str) else one[0] for one in found]


def test_providers_are_chosen_by_what_is_there(monkeypatch):
    """As on machines with a GPU and with TensorRT; neither was run here."""
    import onnxruntime

    cpu, gpu = torch.device("cpu"), torch.device("cuda:1")
    assert providers(cpu, FACTS) == ["CPUExecutionProvider"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "CUDAExecutionProvider" in onnxruntime.get_available_providers(), "which says nothing of this machine"
    with pytest.raises(UserError, match="device cuda:1: there is no GPU that PyTorch can use; write cpu"):
        providers(gpu, FACTS)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tensorrt" else find(name))
    assert providers(gpu, FACTS) == [("CUDAExecutionProvider", {"device_id": 1}), "CPUExecutionProvider"]
    assert providers(cpu, FACTS) == ["CPUExecutionProvider"], "a GPU is there, but another device was asked for"

    there = SimpleNamespace()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: there if name == "tensorrt" else find(name))
    found = providers(gpu, FACTS)
    assert names(found) == ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    options = found[0][1]
    assert options["device_id"] == 1
    assert options["trt_profile_min_shapes"] == "image:1x1x8x8,text:1x2"
    assert options["trt_profile_opt_shapes"] == "image:8x1x8x8,text:8x6"
    assert options["trt_profile_max_shapes"] == "image:64x1x8x8,text:64x6"
    alone = {**FACTS, "inputs": {"image": FACTS["inputs"]["image"]}, "sentence": {}}
    assert providers(gpu, alone)[0][1]["trt_profile_max_shapes"] == "image:64x1x8x8"
