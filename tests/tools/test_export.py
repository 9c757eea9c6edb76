"""``tools export`` and ``bench-backends``, on small networks that nobody trained."""

import json

import onnx
import pytest
import torch
from monai.bundle import ConfigParser
from PIL import Image

import common
from common.bundle import BUNDLES, bundle_folder, configuration_files
from common.datasets import load_dataset, phantoms
from common.errors import UserError
from common.runtime.backends import listed_in, open_exported, read_inside
from common.runtime.export import reduce as module
from common.runtime.model import Processing
from tools.__main__ import main

SIZE = [32, 32]
SMALL = {
    "unet": {"image_size": SIZE, "network_def::network::channels": [4, 4, 8, 8, 8]},
    "mmi_unet": {
        "image_size": SIZE, "network_def::image_encoder::widths": [8, 8, 8, 16],
        "network_def::image_encoder::depths": [1, 1, 1, 1], "network_def::feedforward": 8,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Weights, `unet/model.pt` and `mmi_unet/model.pt`."""
    root = tmp_path_factory.mktemp("export")
    for name, small in SMALL.items():
        parser = ConfigParser()
        parser.read_config(configuration_files(bundle_folder(name), ["inference", "demo"]))
        parser.update({"bundle_root": str(BUNDLES / name)} | small)
        torch.manual_seed(0)
        (root / name).mkdir()
        torch.save(parser.get_parsed_content("network_def").state_dict(), root / name / "model.pt")
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantoms")
    phantoms.write(root, count=40, size=64, seed=3, inbox=0)
    return root


NINE = "Unilateral pulmonary infection, nine infected areas, lower left lung."


def run(command, name, folder, *more):
    sets = [word for key, value in SMALL[name].items() for word in ("--set", f"{key}={json.dumps(value)}")]
    return main([command, "--bundle", name, "--overlay", "demo", "--weights", str(folder / name / "model.pt"),
                 *sets, *map(str, more)])  # fmt: skip


def load(name, folder, file):
    return common.load(name, ["demo"], "cpu", weights=str(folder / name / file), **SMALL[name])


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--formats", "ts,onx"], "--formats onx: is unknown; write some of ts,onnx,pt2"),
        (["--quantize", "int8"], "--quantize int8: needs the format onnx, and --data DIR of images with masks"),
        (["--quantize", "int8", "--data", ".", "--formats", "ts"], "--quantize int8: needs the format onnx"),
        (["--prompts", "table"], "--prompts table: the bundle takes no sentence; leave the option out"),
        (["--set", "weights_=1"], "--set weights_=1: the configuration has no 'weights_'"),
    ],
)
def test_what_is_refused(folder, capsys, more, words):
    assert run("export", "unet", folder, *more) == 2
    assert words in capsys.readouterr().err
    assert {path.name for path in (folder / "unet").iterdir()} <= {"model.pt"}


@pytest.mark.full
def test_a_table_in_onnx(folder, data):
    assert run("export", "mmi_unet", folder, "--formats", "onnx", "--prompts", "table") == 0
    names = {tensor.name for tensor in onnx.load(str(folder / "mmi_unet" / "model_table.onnx")).graph.initializer}
    assert not any("bert" in name for name in names)
    item = load_dataset("auto", data, "test")[0]
    plain, table = (load("mmi_unet", folder, file) for file in ("model.pt", "model_table.onnx"))
    expected, found = (one(item["image"], "Opacity in the right lower lobe.", "patient") for one in (plain, table))
    assert abs(found.probability - expected.probability).max() < 1e-4
    with pytest.raises(UserError, match="its table of 443 sentences does not hold this one"):
        table.logits([{**plain.prepare(item["image"], NINE, "image")}])


def test_int8_and_fp16_are_kept_where_dice_stays(folder, data, capsys, monkeypatch):
    assert run("export", "unet", folder, "--formats", "onnx", "--quantize", "int8", "--data", data,
               "--calibration", 4, "--held-out", 3) == 0  # fmt: skip
    assert "| model_int8.onnx (Conv, ConvTranspose, Gemm, MatMul) |" in capsys.readouterr().out
    path = folder / "unet" / "model_int8.onnx"
    model = onnx.load(str(path))
    kinds = {node.op_type for node in model.graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    assert [entry.domain for entry in model.opset_import] == [""]
    facts = read_inside(path)["export.json"]
    assert facts["reduced"] == {"kind": "int8", "operators": ["Conv", "ConvTranspose", "Gemm", "MatMul"],
                                "calibration images": 4}  # fmt: skip
    sidecar = json.loads((folder / "unet" / "model.export.json").read_text())
    assert sidecar["reduced"]["model_int8.onnx"]["kept"] is True
    assert len(sidecar["reduced"]["model_int8.onnx"]["compared"]) == 3
    assert sidecar["files"].keys() == {"model.onnx"}

    image = load_dataset("auto", data, "test")[0]["image"]
    plain, small = (load("unet", folder, file)(image).probability for file in ("model.onnx", "model_int8.onnx"))
    assert 0 < abs(plain - small).max() < 0.1

    model, source = load("unet", folder, "model.pt"), folder / "unet" / "model.onnx"
    assert module.reduce(model, source, "fp16", data, held_out=2).path.name == "model_fp16.onnx"
    half = load("unet", folder, "model_fp16.onnx")(image).probability
    assert abs(plain - half).max() < 0.01

    monkeypatch.setattr(module, "MOST", -1.0)  # so that every file loses too much
    found = module.reduce(model, source, "int8", data, calibration=2, held_out=2)
    assert found.path is None
    assert not path.exists(), "nor is an older one"
    assert len(found.rows) == 5, "each trial is told"
    sidecar = json.loads((folder / "unet" / "model.export.json").read_text())
    assert sidecar["reduced"]["model_int8.onnx"]["kept"] is False


@pytest.fixture(scope="module")
def table(folder):
    assert run("export", "mmi_unet", folder, "--formats", "ts", "--prompts", "table") == 0
    return folder


def test_a_table_answers_its_sentences_and_refuses_others(table, data):
    item = load_dataset("auto", data, "test")[0]
    plain = load("mmi_unet", table, "model.pt")
    model = load("mmi_unet", table, "model_table.ts")
    assert len(listed_in(model.network.facts)) == 443
    assert not any("bert" in name for name in model.network.module.state_dict())
    for sentence in ("Opacity in the right lower lobe.", None):
        expected, found = (one(item["image"], sentence, "patient") for one in (plain, model))
        assert found.sentence == expected.sentence
        assert abs(found.probability - expected.probability).max() < 1e-4
    with pytest.raises(UserError, match=r"its table of 443 sentences does not hold this one; give zones and at"):
        model(item["image"], NINE, "image")
    with pytest.raises(UserError, match="its table of 443 sentences does not hold this one"):
        model.logits([{**plain.prepare(item["image"], NINE, "image")}])
    left = json.loads((table / "mmi_unet" / "model_table.export.json").read_text())["left out of the trained network"]
    assert any(name.startswith("text_encoder.") for name in left)


def test_workers_refuse_it_too(table):
    """They prepare images, and have no network."""
    weights = str(table / "mmi_unet" / "model_table.ts")
    processing = Processing(bundle_folder("mmi_unet"), ["demo"], weights=weights, **SMALL["mmi_unet"])
    with pytest.raises(UserError, match="its table of 443 sentences does not hold this one"):
        path = table / "a.png"
        Image.new("L", (40, 40)).save(path)
        processing.prepare(path, NINE, "image")


def test_a_file_of_another_bundle_or_vocabulary_is_refused(table, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="bundle mmi_unet, but the configuration has unet; export again"):
        load("unet", table, "../mmi_unet/model_table.ts")
    with pytest.raises(UserError, match="captions canonical, but the configuration has original; export again"):
        common.load("mmi_unet", ["demo"], "cpu", weights=str(table / "mmi_unet" / "model_table.ts"),
                    captions="original", **SMALL["mmi_unet"])  # fmt: skip
    from common.prompts.tokenizer import Tokenizer

    monkeypatch.setattr(Tokenizer, "ids", lambda self, sentence: [2, 8, 3])
    with pytest.raises(UserError, match=r"ids of the default sentence \[2, .*\], but .* has \[2, 8, 3\]"):
        load("mmi_unet", table, "model_table.ts")


def test_an_exported_file_is_not_exported_again(table, capsys):
    weights = table / "mmi_unet" / "model_table.ts"
    sets = [word for key, value in SMALL["mmi_unet"].items() for word in ("--set", f"{key}={json.dumps(value)}")]
    assert main(["export", "--bundle", "mmi_unet", "--overlay", "demo", "--weights", str(weights), *sets]) == 2
    assert "is exported already; give the weights that training wrote" in capsys.readouterr().err


def test_files_open_by_themselves(table):
    network = open_exported(table / "mmi_unet" / "model_table.ts")
    assert network(torch.zeros(2, 1, *SIZE)).shape == (2, 1, *SIZE)


def test_bench_prints_ratios(folder, capsys):
    assert run("export", "unet", folder, "--formats", "ts") == 0
    assert run("bench-backends", "unet", folder, "--no-compile", "--seconds", 0.05, "--batch", 1, "--batch", 2,
               "--device", "cpu") == 0  # fmt: skip
    out = capsys.readouterr().out
    assert "batch 1\n" in out
    assert "batch 2\n" in out
    assert "| PyTorch |" in out
    assert "| model.ts |" in out
    assert "model_table_int8.onnx: is not there and left out" in out
