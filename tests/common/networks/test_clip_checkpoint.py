"""A randomly initialised checkpoint in OpenAI's formats, read, and computed with by other code."""

import io
import pickle
import zipfile

import pytest
import torch
from huggingface_hub import constants

from common.errors import UserError
from common.networks.clip_checkpoint import read_archive
from common.networks.image.clip_resnet import ClipResNet
from common.networks.text.clip_text import ClipText
from tests.common.networks import clip_reference as clip

IDS = torch.tensor([[28, 5, 9, 29, 0, 0], [28, 4, 7, 8, 3, 29]])


@pytest.fixture(scope="module")
def state():
    return clip.checkpoint()


@pytest.fixture(scope="module")
def files(state, tmp_path_factory):
    """The same weights as archive, as pickle and as safetensors, each in a folder of its own."""
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("clip")
    for name in ("archive", "pickle", "safetensors"):
        (folder / name).mkdir()
    (folder / "archive" / "RN101.pt").write_bytes(clip.archive(state))
    torch.save(state, folder / "pickle" / "open_clip_pytorch_model.bin")
    save_file(state, folder / "safetensors" / "open_clip_model.safetensors")
    return folder


def test_an_archive_gives_the_state_dict_that_torch_reads(state, files):
    path = files / "archive" / "RN101.pt"
    read, expected = read_archive(path), torch.jit.load(path).state_dict()
    assert read.keys() == expected.keys() == state.keys()
    assert all(torch.equal(read[key], expected[key]) and read[key].dtype == expected[key].dtype for key in read)


@pytest.mark.parametrize("kind", ["archive", "pickle", "safetensors"])
def test_encoders_compute_what_the_weights_say(state, files, kind):
    image_encoder = ClipResNet(clip.IMAGE, str(files / kind)).eval()
    torch.manual_seed(0)
    image = torch.rand(2, 1, 96, 160)
    second, third, pooled = clip.image_maps(state, image.expand(-1, 3, -1, -1))
    connect = image_encoder.attnpool.connect.eval()
    torch.nn.init.zeros_(connect[0].weight)  # what CLIP does not have: then it adds its norm's 0
    found = image_encoder(image)
    assert [tuple(m.shape) for m in found] == [(2, 64, 12, 20), (2, 128, 6, 10), (2, 6, 3, 5)]
    for ours, reference in zip(found, (second, third, pooled.relu()), strict=True):
        torch.testing.assert_close(ours.double(), reference, rtol=1e-4, atol=1e-4)

    text_encoder = ClipText(clip.TEXT, str(files / kind)).eval()
    states, sentences = text_encoder(IDS), text_encoder.sentence(IDS)
    assert (states.shape, sentences.shape) == ((2, 1, 6, 12), (2, 6))
    for row, length in enumerate((4, 6)):
        words, sentence = clip.text_states(state, IDS[row, :length])
        torch.testing.assert_close(states[row, 0, :length].double(), words, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(sentences[row].double(), sentence, rtol=1e-4, atol=1e-5)


def test_a_file_alone_and_the_hub_cache(files, tmp_path, monkeypatch):
    path = files / "archive" / "RN101.pt"
    expected = ClipText(clip.TEXT, str(path)).state_dict()
    repository = tmp_path / "models--timm--resnet101_clip.openai"
    (repository / "snapshots" / "a").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a")
    (repository / "snapshots" / "a" / "RN101.pt").write_bytes(path.read_bytes())
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    found = ClipText(clip.TEXT, "timm/resnet101_clip.openai").state_dict()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda f: ClipResNet(clip.IMAGE | {"layers": (1, 2, 1, 1)}, f),
            r"it has 'visual.layer4.1.bn1.bias', for which",
        ),
        (
            lambda f: ClipResNet(clip.IMAGE | {"layers": (1, 2, 2, 2)}, f),
            r"it has no 'visual.layer3.1.bn1.bias' \(15 mi",
        ),
        (
            lambda f: ClipResNet(clip.IMAGE | {"output_dim": 7}, f),
            r"'visual.attnpool.c_proj.weight' has shape \(6, 256\), expected \(7, 256\)",
        ),
        (lambda f: ClipText(clip.TEXT | {"layers": 1}, f), r"it has 'transformer.resblocks.1.attn.in_proj_bias', for"),
        (
            lambda f: ClipText(clip.TEXT | {"max_length": 9}, f),
            r"'positional_embedding' has shape \(10, 12\), expected",
        ),
    ],
)
def test_weights_that_do_not_fit_are_one_line(files, make, words):
    with pytest.raises(UserError, match=words) as fault:
        make(str(files / "archive"))
    assert "\n" not in str(fault.value)
    assert "RN101.pt: these weights do not fit Clip" in str(fault.value)


def test_a_missing_checkpoint_is_one_line(tmp_path):
    with pytest.raises(
        UserError, match=r"no RN101.pt or open_clip_model.safetensors or .* in the folder .*hf download"
    ):
        ClipText(clip.TEXT, str(tmp_path))


def test_an_archive_with_more_than_tensors_is_refused(files, tmp_path):
    """A pickle that would run something: it is named, not run."""

    class Evil:
        def __reduce__(self):
            return print, ("run",)

    path = tmp_path / "evil.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("evil/constants.pkl", b"")
        archive.writestr("evil/data.pkl", pickle.dumps(Evil(), protocol=2))
    with pytest.raises(UserError, match=r"evil.pt: asks for (__builtin__|builtins).print, which could run code"):
        ClipText(clip.TEXT, str(path))
    content = (files / "archive" / "RN101.pt").read_bytes()
    damaged = io.BytesIO(content)
    with zipfile.ZipFile(damaged) as whole, zipfile.ZipFile(tmp_path / "damaged.pt", "w") as archive:
        for name in whole.namelist():
            archive.writestr(name, whole.read(name)[: 50 if name.endswith("data.pkl") else None])
    with pytest.raises(UserError, match=r"damaged.pt: not a readable TorchScript archive; fetch it again"):
        ClipText(clip.TEXT, str(tmp_path / "damaged.pt"))


@pytest.mark.parametrize("whole", [True, False])
def test_the_text_side_of_transformers(tmp_path, whole):
    """As in openai/clip-vit-base-patch32: other names, three projections for one, the last one transposed."""
    from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModelWithProjection

    torch.manual_seed(0)
    text = {
        "vocab_size": 30, "hidden_size": 12, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3,
        "max_position_embeddings": 10, "projection_dim": 8, "eos_token_id": 29,
    }  # fmt: skip
    if whole:
        vision = {"hidden_size": 12, "intermediate_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2}
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).eval()
    else:
        model = CLIPTextModelWithProjection(CLIPTextConfig(**text)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    sizes = {"vocab_size": 30, "max_length": 10, "width": 12, "heads": 3, "layers": 2, "output_dim": 8}
    ours = ClipText(sizes, str(tmp_path)).eval()
    ids = torch.tensor([[28, 5, 9, 29, 0, 0], [28, 4, 7, 8, 3, 29]])
    with torch.no_grad():
        out = model.text_model(input_ids=ids)
        vectors = model.text_projection(out.pooler_output)
        torch.testing.assert_close(ours(ids)[0, 0, :4], out.last_hidden_state[0, :4], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ours.sentence(ids), vectors, atol=1e-5, rtol=1e-5)
    state = model.state_dict()
    state.pop("text_model.encoder.layers.1.self_attn.v_proj.bias")
    torch.save(state, tmp_path / "pytorch_model.bin")
    words = r"'transformer.resblocks.1.attn.in_proj_bias' has shape \(24,\), expected \(36,\)"
    with pytest.raises(UserError, match=words):
        ClipText(sizes, str(tmp_path))
