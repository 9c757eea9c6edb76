"""MONAI Deploy's contract: the steps of its bundle inference operator, in its order, on an exported file alone."""

import importlib.util
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import ensure_tuple

import common
from common.errors import UserError
from common.runtime.export.export import export
from common.serving.deploy import as_volume, ask, operators, read

from .label.conftest import small_bundle, write_studies

SENTENCE = "Opacity in the left lower lobe."


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = small_bundle(tmp_path_factory.mktemp("deploy") / "mmi_unet", "mmi_unet")
    export(common.load(folder, device="cpu"), formats=("ts",))
    return folder


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    return write_studies(tmp_path_factory.mktemp("deployed") / "images")


def configured(path: Path, extract: Path) -> ConfigParser:
    """As the operator finds configurations: below the file's own name, in `extra`."""
    with zipfile.ZipFile(path) as archive:
        parser = ConfigParser()
        parser.read_meta(json.loads(archive.read(f"{path.stem}/extra/metadata.json")))
        parser.read_config([archive.extract(f"{path.stem}/extra/inference.json", extract)])
    parser.parse()
    return parser


def without(compose, *names):
    compose.transforms = tuple(step for step in compose.transforms if not any(n in type(step).__name__ for n in names))
    return compose


@pytest.mark.parametrize("image", ["dx", "cr", "png"])
@pytest.mark.parametrize("sentence", [SENTENCE, None])
def test_the_operators_steps_give_the_bundles_mask(bundle, studies, image, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # no bundle is here
    file = bundle / "models" / "model.ts"
    parser = configured(file, tmp_path)
    inputs = parser["_meta_"]["network_data_format"]["inputs"]
    assert list(inputs) == ["image"]
    before = without(parser.get_parsed_content("preprocessing"), "LoadImage", "SaveImage")
    after = without(parser.get_parsed_content("postprocessing"), "LoadImage", "SaveImage")
    assert all(isinstance(steps.transforms[0], MapTransform) for steps in (before, after))
    network = torch.jit.load(str(file), map_location="cpu").eval()
    value, meta = read(studies[image])
    data = before(ask({"image": MetaTensor.ensure_torch_and_prune_meta(value, meta)}, sentence, "patient"))
    kept = data["image"]
    others = {key: value[None] for key, value in data.items() if key != "image" and isinstance(value, torch.Tensor)}
    with torch.no_grad():
        outputs = parser.get_parsed_content("inferer")(inputs=kept[None], network=network, **others)
        answer = as_volume(after({"pred": ensure_tuple(outputs)[0], **data}))
    sent = np.swapaxes(np.squeeze(answer["pred"].cpu().numpy(), 0), 0, 2).astype(np.uint8)  # (D, rows, columns)
    wanted = common.load(bundle, device="cpu")(studies[image], sentence, "patient").mask
    assert sent.shape == (1, 96, 80)
    assert 0 < wanted.mean() < 1
    assert np.array_equal(sent[0] > 0, wanted)
    assert answer["prompt_used"] == ("given" if sentence else "default")


def test_a_sentence_without_a_side_is_refused():
    with pytest.raises(UserError, match="laterality: whose left"):
        ask({}, SENTENCE, None)
    assert ask({"a": 1}, " ", None) == {"a": 1}


def test_without_monai_deploy_the_line_says_what_to_install():
    if importlib.util.find_spec("monai.deploy") is not None:
        pytest.skip("MONAI Deploy is installed")
    with pytest.raises(UserError, match="MONAI Deploy cannot be imported"):
        operators()


@pytest.mark.full
def test_the_real_operator_gives_the_bundles_mask(bundle, studies):
    if importlib.util.find_spec("monai.deploy") is None:
        pytest.skip("MONAI Deploy is not installed: pip install monai-deploy-app-sdk")
    from monai.deploy.conditions import CountCondition
    from monai.deploy.core import AppContext, Application, Image, IOType, Operator
    from monai.deploy.operators.monai_bundle_inference_operator import IOMapping

    read_operator, referring_operator = operators()
    sent = []

    class Sink(Operator):
        def setup(self, spec):
            spec.input("pred")

        def compute(self, op_input, op_output, context):
            sent.append(op_input.receive("pred").asnumpy())

    class Lesions(Application):
        def compose(self):
            source = read_operator(self, CountCondition(self, 1), path=str(studies["cr"]), name="read")
            segment = referring_operator(
                self, app_context=AppContext({}), bundle_path=str(bundle / "models" / "model.ts"), name="segment",
                sentence=SENTENCE, laterality="patient",
                input_mapping=[IOMapping("image", Image, IOType.IN_MEMORY)],
                output_mapping=[IOMapping("pred", Image, IOType.IN_MEMORY)],
            )  # fmt: skip
            self.add_flow(source, segment, {("image", "image")})
            self.add_flow(segment, Sink(self, name="sink"), {("pred", "pred")})

    Lesions([]).run()
    (mask,) = sent
    assert np.array_equal(mask[0] > 0, common.load(bundle, device="cpu")(studies["cr"], SENTENCE, "patient").mask)
