"""What the exported files of every bundle must do; one export of the demo network a bundle."""

import csv
import json
import re
import zipfile

import numpy as np
import pytest
import torch
from monai.data import load_net_with_metadata
from PIL import Image

import common
from common.datasets import load_dataset
from tools.__main__ import main

from .base import ROOT, SIZE


class ExportTests:
    """Fixture `exported`: the folder with `model.pt`, `model.ts`, `model.onnx`, `model.pt2` and the sidecar."""

    def test_parity_stands_in_the_sidecar(self, bundle, exported):
        sidecar = json.loads((exported / "model.export.json").read_text())
        assert sidecar["files"].keys() == {"model.ts", "model.onnx", "model.pt2"}
        for name, file in sidecar["files"].items():
            assert file["bytes"] == (exported / name).stat().st_size
            parity = file["parity"]
            assert parity["largest difference of a logit"] <= parity["tolerance"] < 1e-2
            assert len(parity["batch sizes"]) >= 2
            if bundle.json("metadata")["default_prompt"]:
                lengths = parity["tokens of the sentences"]
                assert len(lengths) == len(set(lengths)) == 5
                assert (min(lengths), max(lengths)) == (2, sidecar["inputs"]["text"]["longest"])
                pixels = parity["mask pixels that the sentence changes"]
                assert pixels["network"] == pixels["file"]
        assert sidecar["image"]["size"] == [SIZE, SIZE]
        assert sidecar["threshold"] == 0.5
        assert sidecar["versions"]["chest-refseg"] == common.__version__

    def test_files_say_nothing_of_this_machine(self, exported):
        """Paths would tell a hospital's customers where somebody works."""
        places = [str(place).encode() for place in (ROOT, exported)]
        for name in ("model.ts", "model.pt2"):
            with zipfile.ZipFile(exported / name) as archive:
                held = {entry: archive.read(entry) for entry in archive.namelist()}
            texts = {entry.rpartition("/")[2] for entry in held if "extra/" in entry}
            assert texts >= {"export.json", "metadata.json", "inference.json"}
            assert [entry for entry, content in held.items() if any(place in content for place in places)] == []
        for name in ("model.onnx", "model.export.json"):
            assert not any(place in (exported / name).read_bytes() for place in places)

    def test_monai_reads_what_torchscript_holds(self, bundle, exported):
        script, metadata, more = load_net_with_metadata(
            str(exported / "model.ts"), more_extra_files=("inference.json", "export.json")
        )
        assert metadata["name"] == bundle.name
        inference = json.loads(more["inference.json"])
        assert inference["image_size"] == [SIZE, SIZE]
        assert inference["bundle_root"] == f"$_root('{bundle.name}')"
        facts = json.loads(more["export.json"])
        image = torch.randn(3, *facts["inputs"]["image"]["shape"][1:])
        with torch.no_grad():
            alone = script(image)
            assert alone.shape == (3, 1, SIZE, SIZE)
            if "text" in facts["inputs"]:
                ids = torch.tensor([facts["sentence"]["default_ids"]] * 3)
                torch.testing.assert_close(alone, script(image, ids))

    def test_all_backends_give_the_same_dice(self, bundle, data, exported, tmp_path):
        found = {}
        for backend in ("torch", "torchscript", "onnx"):
            code = main(["evaluate", "--bundle", str(bundle.root), "--overlay", "demo", "--data", str(data),
                         "--limit", "3", "--weights", str(exported / "model.pt"), "--backend", backend,
                         "--set", f"image_size=[{SIZE}, {SIZE}]", "--output", str(tmp_path / backend)])  # fmt: skip
            assert code == 0
            summary = json.loads((tmp_path / backend / "summary.json").read_text())
            found[backend] = summary["dice"]["micro"]["value"], summary["dice"]["per_image"]["value"]
            suffix = {"torch": ".pt", "torchscript": ".ts", "onnx": ".onnx"}[backend]
            assert summary["weights"].endswith(f"model{suffix}")
        assert found["torchscript"] == pytest.approx(found["torch"], abs=1e-4, nan_ok=True)
        assert found["onnx"] == pytest.approx(found["torch"], abs=1e-4, nan_ok=True)

    def test_segment_by_a_backend_writes_the_same_masks(self, bundle, data, exported, tmp_path):
        rows = {}
        for backend in ("torch", "torchscript", "onnx"):
            out = tmp_path / backend
            main(["segment", "--bundle", str(bundle.root), "--overlay", "demo", "--weights", str(exported / "model.pt"),
                  "--backend", backend, "--set", f"image_size=[{SIZE}, {SIZE}]", "--device", "cpu", "--workers", "0",
                  "--input", str(data / "images"), "--text", "Opacity in the right lower lobe.", "--laterality",
                  "patient", "--no-overlays", "--output", str(out)])  # fmt: skip
            with (out / "results.csv").open(newline="", encoding="utf-8") as file:
                rows[backend] = {row["source"]: row for row in csv.DictReader(file)}
        for name, row in rows["torch"].items():
            assert row["status"] == "done"
            for backend in ("torchscript", "onnx"):
                masks = [np.asarray(Image.open(tmp_path / kind / row["mask"])) for kind in ("torch", backend)]
                assert (masks[0] != masks[1]).mean() < 1e-3, (name, backend)

    def test_the_document_s_program_needs_the_file_alone(self, bundle, data, exported, tmp_path):
        """`docs/export.md`: the picture's size is not the network's, so that all steps count."""
        program = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "export.md").read_text(), re.S)[1]
        assert "common" not in program
        names: dict = {}
        exec(program, names)
        item = load_dataset("auto", data, "test")[0]
        picture = Image.open(item["image"]).resize((150, 130), Image.Resampling.BICUBIC)
        picture.save(tmp_path / "a.png")
        model = common.load(bundle.root, ["demo"], "cpu", image_size=[SIZE, SIZE], weights=str(exported / "model.pt"))
        expected = model(tmp_path / "a.png", item["text_prompt"], "image")
        mask = names["segment"](str(exported / "model.onnx"), tmp_path / "a.png", expected.sentence)
        assert mask.shape == expected.displayed.shape == (130, 150)
        assert (mask != expected.displayed).mean() < 0.01
