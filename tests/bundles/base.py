"""What every bundle must do; `test_bundles.py` runs it over all of them."""

import json
import logging
import re
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import constants
from monai.bundle import ConfigParser, ConfigWorkflow, verify_metadata, verify_net_in_out
from monai.bundle.scripts import ckpt_export
from tokenizers import pre_tokenizers

from common import __version__
from common.errors import UserError, user_error
from common.prompts import DEFAULT_PROMPT
from common.prompts.tokenizer import Tokenizer
from tests.common.engines.test_resume import differences

ROOT = Path(__file__).resolve().parents[2]
BUNDLES = sorted(path.parent.parent.name for path in (ROOT / "bundles").glob("*/configs/metadata.json"))
SCHEMA = Path(__file__).with_name("meta_schema_20240725.json")
SIZE = 64
# files that the model zoo's check requires of a bundle, and ours
REQUIRED = (
    "configs/metadata.json", "configs/train.json", "configs/inference.json", "configs/evaluate.json",
    "configs/multi_gpu_train.json", "configs/gpu.json", "configs/demo.json", "configs/logging.conf", "docs/README.md",
    "docs/data_license.txt", "LICENSE", "large_files.yml",
)  # fmt: skip
CARD = (
    "Model Overview", "Data", "Training configuration", "Performance", "MONAI Bundle Commands", "Limitations",
    "References", "License",
)  # fmt: skip
SAME_IN_ALL = (
    "configs/evaluate.json", "configs/gpu.json", "configs/multi_gpu_train.json", "configs/logging.conf", "LICENSE",
)  # fmt: skip


class Bundle:
    """Paths and configurations of one bundle."""

    def __init__(self, name: str, bundles: Path = ROOT / "bundles"):
        self.name = name
        self.root = bundles / name
        self.configs = self.root / "configs"

    def json(self, name: str) -> dict:
        return json.loads((self.configs / f"{name}.json").read_text())

    def files(self, *names: str) -> list[str]:
        return [str(self.configs / f"{name}.json") for name in names]

    def workflow(self, *names: str, kind: str, **override) -> ConfigWorkflow:
        flow = ConfigWorkflow(
            self.files(*names),
            str(self.configs / "metadata.json"),
            logging_file=False,
            workflow_type=kind,
            bundle_root=str(self.root),
            device="$torch.device('cpu')",
            num_workers=0,
            **override,
        )
        flow.initialize()
        return flow


def trained(bundle: Bundle, data: Path, folder: Path, *overlays: str) -> dict:
    """Train two steps of the demo configuration; returns the overrides that point at what it wrote."""
    override = {
        "dataset_dir": str(data), "image_size": [SIZE, SIZE], "batch_size": 4,
        "output_dir": str(folder), "weights": str(folder / "model.pt"),
    }  # fmt: skip
    # a part of the loss that waits for an epoch shall run, too
    waits = {"loss::guide_from": 0} if "guide_from" in bundle.json("train")["loss"] else {}
    if "unlabelled" in bundle.json("train")["train"]["trainer"]:
        waits |= {"fraction": 0.25}  # of two epochs none is burn-in
    flow = bundle.workflow("train", "demo", *overlays, kind="train", max_epochs=2, epoch_length=1, **override, **waits)
    flow.run()
    flow.finalize()
    return override


def write_clip_vocabulary(folder: Path, words: list[str]) -> None:
    """`vocab.json` and `merges.txt` of CLIP's size, in which each of the words is one piece."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet(), key=lambda letter: (letter != "!", letter))
    pieces, merges = [*letters, *(letter + "</w>" for letter in letters)], []
    for word in words:
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            if parts[0] + parts[1] not in pieces:
                merges.append(f"{parts[0]} {parts[1]}")
                pieces.append(parts[0] + parts[1])
            parts = [parts[0] + parts[1], *parts[2:]]
    pieces += [f"word{number}" for number in range(49_406 - len(pieces))]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({piece: number for number, piece in enumerate(pieces)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")


def check_paper(bundle: Bundle, paper: dict, folder: Path) -> None:
    """What the overlay must make of the configurations: published encoders, original sentences, a folder of its own."""
    assert paper.keys() >= {"text_checkpoint", "captions", "batch_size", "run_dir", "weights"}
    file = folder / "paper.json"
    file.write_text(json.dumps(paper))
    parsers = {}
    for names in (("train",), ("inference",), ("train", "evaluate")):
        parsers[names[-1]] = parser = ConfigParser()
        parser.read_config([*bundle.files(names[0]), str(file), *bundle.files(*names[1:])])
        parser.update({"bundle_root": "B"})
        assert parser.get_parsed_content("captions") == "original"
        assert parser.get_parsed_content("weights") == "B/runs/paper/model.pt"
    ids = [f"network_def::{part}::pretrained" for part, value in parsers["train"]["network_def"].items()
           if isinstance(value, dict) and "pretrained" in value]  # fmt: skip
    assert ids
    own = bundle.json("train")["network_def"]
    for key in ids:
        part = key.split("::")[1]
        named = parsers["train"]["network_def"][part].get("architecture")
        assert named is None or named != own[part].get("architecture"), f"{part}: not the checkpoint's architecture"
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", parsers["train"].get_parsed_content(key) or ""), key
        assert parsers["inference"].get_parsed_content(key) is parsers["evaluate"].get_parsed_content(key) is None
    # a published encoder's vector of a sentence is taken as it is
    assert parsers["train"]["network_def"].get("sentence_scale", 1.0) == 1.0
    shapes = []
    for name, parser in parsers.items():
        parser["load_pretrained"] = False
        with torch.device("meta"):
            network = parser.get_parsed_content("network_def")
        assert network.vocab_size == Tokenizer.of(parser["text_checkpoint"]).vocab_size, name
        shapes.append({key: value.shape for key, value in network.state_dict().items()})
    assert shapes[0] == shapes[1] == shapes[2]


class BundleTests:
    """One class over all bundles: fixtures `bundle`, `data` (phantoms), `run` (overrides of a tiny training)."""

    # files

    def test_required_files(self, bundle):
        assert [name for name in REQUIRED if not (bundle.root / name).is_file()] == []

    def test_shared_files_are_the_same_in_all(self, bundle):
        first = ROOT / "bundles" / "unet"
        assert [n for n in SAME_IN_ALL if (bundle.root / n).read_bytes() != (first / n).read_bytes()] == []

    def test_no_large_file_outside_models(self, bundle):
        written = {bundle.root / "runs", bundle.root / "eval", bundle.root / "models"}
        large = [
            p for p in bundle.root.rglob("*")
            if p.is_file() and p.stat().st_size > 1_000_000 and not written & set(p.parents)
        ]  # fmt: skip
        assert large == []

    def test_json_is_indented_by_four(self, bundle):
        for path in bundle.configs.glob("*.json"):
            text = path.read_text()
            assert text == json.dumps(json.loads(text), indent=4, ensure_ascii=False) + "\n", path.name

    def test_expressions_are_one_line(self, bundle):
        def walk(item):
            if isinstance(item, dict):
                for value in item.values():
                    yield from walk(value)
            elif isinstance(item, list):
                for value in item:
                    yield from walk(value)
            elif isinstance(item, str) and item.startswith("$"):
                yield item

        for path in bundle.configs.glob("*.json"):
            assert [e for e in walk(json.loads(path.read_text())) if "\n" in e or len(e) > 140] == [], path.name

    def test_large_files_list(self, bundle):
        listed = yaml.safe_load((bundle.root / "large_files.yml").read_text())
        assert isinstance(listed["large_files"], list)
        for entry in listed["large_files"]:
            assert entry["path"].startswith("models/")
            assert re.fullmatch(r"[0-9a-f]{64}", entry["hash_val"])
            assert entry["hash_type"] == "sha256"

    def test_metadata_fits_the_schema(self, bundle, tmp_path):
        verify_metadata(
            meta_file=str(bundle.configs / "metadata.json"),
            filepath=str(SCHEMA),
            create_dir=False,
            hash_val=None,
        )

    def test_metadata_names_itself(self, bundle):
        metadata = bundle.json("metadata")
        assert metadata["name"] == bundle.name
        assert metadata["version"] in metadata["changelog"]
        assert metadata["required_packages_version"]["chest-refseg"] == __version__
        assert metadata["network_data_format"]["inputs"].keys() == {"image"}
        assert metadata["network_data_format"]["outputs"]["pred"]["channel_def"] == {
            "0": "background",
            "1": "lesion",
        }
        assert metadata["grammar"] in ("chest", "polyp")
        for key in ("grammar", "captions"):
            assert metadata[key] == bundle.json("train")[key] == bundle.json("inference")[key]

    def test_packages_are_the_pinned_ones(self, bundle):
        pins = dict(re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / "requirements.txt").read_text(), re.M))
        metadata = bundle.json("metadata")
        found = dict(metadata["required_packages_version"])
        found.pop("chest-refseg")
        found |= {
            "monai": metadata["monai_version"],
            "torch": metadata["pytorch_version"],
            "numpy": metadata["numpy_version"],
        }
        assert {name: pins.get(name) for name in found} == found

    def test_model_card_has_the_sections(self, bundle):
        text = (bundle.root / "docs" / "README.md").read_text()
        heads = re.findall(r"^#+ (.+)$", text, re.M)
        assert [section for section in CARD if section not in heads] == []
        assert "not a medical device" in text

    # configurations

    def test_train_and_inference_hold_the_same(self, bundle):
        train, inference = bundle.json("train"), bundle.json("inference")
        for key in (
            "network_def",
            "deterministic_transforms",
            "normalization",
            "image_size",
            "grammar",
            "captions",
            "weights",
        ):
            assert train[key] == inference[key], key

    def test_inference_takes_no_sentence_as_configuration(self, bundle):
        assert {"displayable_configs", "text", "text_prompt"} & bundle.json("inference").keys() == set()

    def test_where_runs_write_and_weights_lie(self, bundle):
        """A run's weights lie with it, and evaluating or inferring elsewhere still finds them."""

        def where(*names, **override):
            parser = ConfigParser()
            parser.read_config(bundle.files(*names))
            parser.update({"bundle_root": "B"} | override)
            return [parser.get_parsed_content(key) for key in ("output_dir", "weights")]

        best = "B/models/model.pt"
        for option, weights in (({}, best), ({"weights": "W"}, "W")):
            assert where("train", **option) == ["B/runs/train", weights]
            assert where("train", **option, output_dir="X") == ["X", weights]
            assert where("train", "evaluate", **option) == ["B/runs/evaluate", weights]
            assert where("inference", **option) == ["B/eval", weights]
        for overlay in sorted({"demo", "paper"} & {path.stem for path in bundle.configs.glob("*.json")}):
            run = f"B/runs/{overlay}"
            for gpus in ((), ("multi_gpu_train",)):
                assert where("train", overlay, *gpus) == [run, f"{run}/model.pt"]
                assert where("train", overlay, *gpus, output_dir="X") == ["X", "X/model.pt"]
                assert where("train", overlay, *gpus, run_dir="X") == ["X", "X/model.pt"]
                assert where("train", overlay, *gpus, weights="W") == [run, "W"]
            for names, output in ((("train", overlay, "evaluate"), "B/runs/evaluate"),
                                  (("inference", overlay), "B/eval")):  # fmt: skip
                assert where(*names) == [output, f"{run}/model.pt"]
                assert where(*names, output_dir="X") == ["X", f"{run}/model.pt"]
                assert where(*names, run_dir="X") == [output, "X/model.pt"]
                assert where(*names, output_dir="X", weights="W") == ["X", "W"]

    def test_paper_overlay(self, bundle, tmp_path, monkeypatch):
        """The paper's encoders, without their weights; the overlay with any id taken out is none."""
        takes_text = bundle.json("metadata")["default_prompt"] != ""
        assert (bundle.configs / "paper.json").is_file() is takes_text
        if not takes_text:
            return
        paper = bundle.json("paper")
        # the hub cache as `hf download` leaves it, with a vocabulary of CXR-BERT's or CLIP's size
        repository = tmp_path / "hub" / f"models--{paper['text_checkpoint'].replace('/', '--')}"
        (repository / "snapshots" / "a").mkdir(parents=True)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text("a")
        words = re.findall(r"\w+|[^\w\s]", DEFAULT_PROMPT[bundle.json("train")["grammar"]].lower())
        if "clip" in paper["text_checkpoint"]:
            write_clip_vocabulary(repository / "snapshots" / "a", words)
        else:
            pieces = list(dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words]))
            pieces += [f"word{number}" for number in range(30_522 - len(pieces))]
            (repository / "snapshots" / "a" / "vocab.txt").write_text("\n".join(pieces) + "\n")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        check_paper(bundle, paper, tmp_path)
        for key in paper:
            with pytest.raises((AssertionError, UserError, RuntimeError)):  # the last is how MONAI wraps others
                check_paper(bundle, {k: v for k, v in paper.items() if k != key}, tmp_path)

    def test_properties_of_training(self, bundle, data, tmp_path):
        flow = bundle.workflow(
            "train", "demo", kind="train", dataset_dir=str(data), image_size=[SIZE, SIZE], output_dir=str(tmp_path)
        )
        assert flow.check_properties() == []

    def test_properties_of_inference(self, bundle, data, run):
        flow = bundle.workflow("inference", "demo", kind="infer", **run | {"dataset_dir": str(data / "images")})
        assert flow.check_properties() == []

    # network

    def test_network_takes_and_gives_what_metadata_says(self, bundle):
        verify_net_in_out(
            net_id="network_def", meta_file=str(bundle.configs / "metadata.json"),
            config_file=bundle.files("inference"), device="cpu", n=1, any=32,
        )  # fmt: skip

    def test_foreign_weights_are_refused(self, bundle, run):
        flow = bundle.workflow("inference", "demo", kind="infer", **run)
        network = flow.parser.get_parsed_content("network_def")
        state = network.state_dict()
        state.pop(next(iter(state)))
        with pytest.raises(UserError, match="1 keys missing"):
            network.load_state_dict(state, strict=False)

    # running

    def test_training_writes_weights_and_history(self, bundle, run):
        folder = Path(run["output_dir"])
        assert {"last.pt", "model.pt", "model.json", "history.csv"} <= {p.name for p in folder.iterdir()}
        sidecar = json.loads((folder / "model.json").read_text())
        assert {"metric", "value", "epoch", "commit", "versions", "seed", "data", "config"} <= sidecar.keys()
        assert sidecar["config"]["max_epochs"] == 2
        header, *rows = (folder / "history.csv").read_text().splitlines()
        assert len(rows) == 2
        if "guide_from" in bundle.json("train")["loss"]:
            assert {"loss/guide", "loss/guided"} <= set(header.split(","))
        if "unlabelled" in bundle.json("train")["train"]["trainer"]:
            assert {"loss/unsupervised", "loss/align_unlabelled", "loss/mixed"} <= set(header.split(","))
            assert sidecar["unlabelled"]["items"] > sidecar["data"]["items"]

    def test_data_on_the_device_and_a_thread_change_nothing(self, bundle, data, run, tmp_path):
        """The overlay for a GPU, on the CPU: the same weights to the last bit, in single precision."""
        trained(bundle, data, tmp_path, "gpu")
        for name in ("last.pt", "model.pt"):
            files = (Path(run["output_dir"]) / name, tmp_path / name)
            assert differences(*(torch.load(file, weights_only=True) for file in files)) == []

    def test_evaluation_scores_the_written_masks(self, bundle, data, run, tmp_path):
        """The evaluator's counts are those of the masks that inference writes."""
        import numpy as np
        from PIL import Image

        evaluate = run | {"output_dir": str(tmp_path / "scores"), "split": "test"}
        flow = bundle.workflow("train", "demo", "evaluate", kind="infer", **evaluate)
        flow.parser["dataset"] = "auto"
        flow.run()
        summary = json.loads((tmp_path / "scores" / "summary.json").read_text())
        rows = (tmp_path / "scores" / "scores.csv").read_text().splitlines()
        assert len(rows) - 1 == summary["images"]

        import csv

        import common

        model = common.load(bundle.root, ["demo"], **{k: v for k, v in run.items() if k != "dataset_dir"})
        for row in list(csv.DictReader((tmp_path / "scores" / "scores.csv").open()))[:3]:
            result = model(row["image"], row["text_prompt"], laterality="image")
            truth = np.asarray(Image.open(row["image"].replace("images", "masks"))) > 0
            assert int(row["tp"]) == int((result.mask & truth).sum())
            assert int(row["fp"]) == int((result.mask & ~truth).sum())

    def test_inferring_writes_a_mask_an_image(self, bundle, data, run, tmp_path):
        images = data / "images"
        flow = bundle.workflow(
            "inference",
            "demo",
            kind="infer",
            **run | {"dataset_dir": str(images), "output_dir": str(tmp_path)},
        )
        flow.run()
        assert len(list(tmp_path.rglob("*_mask.png"))) == len(list(images.glob("*.png")))

    def test_a_sentence_is_no_option_of_inferring(self, bundle, data, run, tmp_path):
        """Not silently ignored, and above all not evaluated."""
        sentence = f"$__import__('pathlib').Path({str(tmp_path / 'evaluated')!r}).touch()"
        for key in ("text", "text_prompt"):
            where = run | {"dataset_dir": str(data / "images"), "output_dir": str(tmp_path / "out"), key: sentence}
            with pytest.raises((UserError, RuntimeError)) as fault:
                bundle.workflow("inference", "demo", kind="infer", **where).run()
            assert str(user_error(fault.value)).startswith(f"--{key}: a sentence is not taken from the configuration")
            assert list(tmp_path.iterdir()) == []

    def test_monai_exports_it(self, bundle, run, tmp_path):
        logging.getLogger("py.warnings").setLevel(logging.ERROR)
        ckpt_export(
            net_id="network_def", filepath=str(tmp_path / "model.ts"), ckpt_file=run["weights"],
            meta_file=str(bundle.configs / "metadata.json"), config_file=bundle.files("inference", "demo"),
            use_trace=True, input_shape=[1, self.channels(bundle), SIZE, SIZE], bundle_root=str(bundle.root),
        )  # fmt: skip
        traced = torch.jit.load(str(tmp_path / "model.ts"))
        network = bundle.workflow("inference", "demo", kind="infer", **run).parser.get_parsed_content("network_def")
        network.load_state_dict(torch.load(run["weights"], weights_only=True))
        image = torch.randn(2, self.channels(bundle), SIZE, SIZE)
        with torch.no_grad():
            assert torch.allclose(traced(image), network.eval()(image), atol=1e-5)

    @staticmethod
    def channels(bundle) -> int:
        return bundle.json("metadata")["network_data_format"]["inputs"]["image"]["num_channels"]
