"""OpenAI's CLIP with a ResNet, by its names, in plain functions; it imports nothing of ``common``."""

import io
import math

import torch
import torch.nn.functional as F
from torch import nn

LAYERS, WIDTH, DIM = (1, 2, 1, 2), 8, 6
WORDS, LENGTH, TEXT_WIDTH, TEXT_HEADS, TEXT_LAYERS = 30, 10, 12, 3, 2
IMAGE = {"layers": LAYERS, "width": WIDTH, "output_dim": DIM}
TEXT = {
    "vocab_size": WORDS, "max_length": LENGTH, "width": TEXT_WIDTH, "heads": TEXT_HEADS, "layers": TEXT_LAYERS,
    "output_dim": DIM,
}  # fmt: skip


def checkpoint() -> dict[str, torch.Tensor]:
    """Names and shapes as OpenAI's, random numbers in half precision."""
    generator = torch.Generator().manual_seed(3)
    state = {}

    def put(name, *shape):
        state[name] = (torch.randn(*shape, generator=generator) / math.sqrt(math.prod(shape[1:]) or 1)).half()

    def put_norm(name, channels):
        put(f"{name}.weight", channels)
        put(f"{name}.bias", channels)
        put(f"{name}.running_mean", channels)
        state[f"{name}.running_var"] = (0.5 + torch.rand(channels, generator=generator)).half()
        state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    half = WIDTH // 2
    for number, (given, made) in enumerate(((3, half), (half, half), (half, WIDTH)), 1):
        put(f"visual.conv{number}.weight", made, given, 3, 3)
        put_norm(f"visual.bn{number}", made)
    given = WIDTH
    for stage, blocks in enumerate(LAYERS):
        channels = WIDTH * 2**stage
        for block in range(blocks):
            name = f"visual.layer{stage + 1}.{block}"
            for number, shape in enumerate(
                ((channels, given, 1, 1), (channels, channels, 3, 3), (4 * channels, channels, 1, 1)), 1
            ):
                put(f"{name}.conv{number}.weight", *shape)
                put_norm(f"{name}.bn{number}", shape[0])
            if block == 0:
                put(f"{name}.downsample.0.weight", 4 * channels, given, 1, 1)
                put_norm(f"{name}.downsample.1", 4 * channels)
            given = 4 * channels
    put("visual.attnpool.positional_embedding", 50, given)
    for layer, made in (("q", given), ("k", given), ("v", given), ("c", DIM)):
        put(f"visual.attnpool.{layer}_proj.weight", made, given)
        put(f"visual.attnpool.{layer}_proj.bias", made)
    put("token_embedding.weight", WORDS, TEXT_WIDTH)
    put("positional_embedding", LENGTH, TEXT_WIDTH)
    for layer in range(TEXT_LAYERS):
        name = f"transformer.resblocks.{layer}"
        for norm in ("ln_1", "ln_2"):
            put(f"{name}.{norm}.weight", TEXT_WIDTH)
            put(f"{name}.{norm}.bias", TEXT_WIDTH)
        put(f"{name}.attn.in_proj_weight", 3 * TEXT_WIDTH, TEXT_WIDTH)
        put(f"{name}.attn.in_proj_bias", 3 * TEXT_WIDTH)
        for part, made, taken in (("attn.out_proj", 1, 1), ("mlp.c_fc", 4, 1), ("mlp.c_proj", 1, 4)):
            put(f"{name}.{part}.weight", made * TEXT_WIDTH, taken * TEXT_WIDTH)
            put(f"{name}.{part}.bias", made * TEXT_WIDTH)
    put("ln_final.weight", TEXT_WIDTH)
    put("ln_final.bias", TEXT_WIDTH)
    put("text_projection", TEXT_WIDTH, DIM)
    state["logit_scale"] = torch.tensor(4.6)
    state |= {"input_resolution": torch.tensor(224), "context_length": torch.tensor(10), "vocab_size": torch.tensor(30)}
    return state


def archive(state) -> bytes:
    """The state dict as the TorchScript archive that OpenAI publishes: a tree of modules, tensors at its leaves."""

    def node(part):
        class Node(nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return x

        made = Node()
        for name in dict.fromkeys(key.split(".")[0] for key in part):
            if name in part:
                if part[name].is_floating_point() and "running" not in name:
                    made.register_parameter(name, nn.Parameter(part[name]))
                else:
                    made.register_buffer(name, part[name])
            else:
                made.add_module(
                    name, node({k[len(name) + 1 :]: v for k, v in part.items() if k.startswith(name + ".")})
                )
        return made

    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(node(state), (torch.zeros(1),)), buffer)
    return buffer.getvalue()


def image_maps(state, image, stem_stride=4):
    """F2, F3 and the map of the attention pool, without what CLIP does not have, of pictures (B, 3, H, W)."""
    p = {key: value.double() for key, value in state.items()}

    def conv_norm(x, conv, norm, stride=1):
        weight = p[f"visual.{conv}.weight"]
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        names = ("running_mean", "running_var", "weight", "bias")
        mean, var, gain, bias = (p[f"visual.{norm}.{name}"][:, None, None] for name in names)
        return (x - mean) / torch.sqrt(var + 1e-5) * gain + bias

    mean, std = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
    x = (image.double() - torch.tensor(mean).double()[:, None, None]) / torch.tensor(std).double()[:, None, None]
    for number, stride in ((1, 2), (2, 1), (3, 1)):
        x = F.relu(conv_norm(x, f"conv{number}", f"bn{number}", stride))
    x = F.avg_pool2d(x, stem_stride // 2)
    maps = []
    for stage, blocks in enumerate(LAYERS, 1):
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            y = F.relu(conv_norm(x, f"{name}.conv1", f"{name}.bn1"))
            y = F.relu(conv_norm(y, f"{name}.conv2", f"{name}.bn2"))
            y = conv_norm(F.avg_pool2d(y, stride), f"{name}.conv3", f"{name}.bn3")
            if block == 0:
                x = conv_norm(F.avg_pool2d(x, stride), f"{name}.downsample.0", f"{name}.downsample.1")
            x = F.relu(y + x)
        maps.append(x)
    q, k, v, c = ((p[f"visual.attnpool.{name}_proj.weight"], p[f"visual.attnpool.{name}_proj.bias"]) for name in "qkvc")
    channels, (height, width) = x.shape[1], x.shape[2:]
    positions = p["visual.attnpool.positional_embedding"][1:].T.reshape(1, channels, 7, 7)
    cells = (x + F.interpolate(positions, (height, width), mode="bicubic")).flatten(2).permute(2, 0, 1)
    pooled, _ = F.multi_head_attention_forward(
        cells, cells, cells, channels, WIDTH // 2, None, torch.cat((q[1], k[1], v[1])), None, None, False, 0.0,
        c[0], c[1], use_separate_proj_weight=True, q_proj_weight=q[0], k_proj_weight=k[0], v_proj_weight=v[0],
        training=False, need_weights=False,
    )  # fmt: skip
    return maps[1], maps[2], pooled.permute(1, 2, 0).reshape(len(image), DIM, height, width)


def text_states(state, ids):
    """The normalised last states of one sentence's ids (L,), and its vector, the last id being the end of text."""
    p = {key: value.double() for key, value in state.items()}
    x = p["token_embedding.weight"][ids] + p["positional_embedding"][: len(ids)]
    hidden = torch.full((len(ids), len(ids)), -math.inf).double().triu(1)
    for layer in range(TEXT_LAYERS):
        b = {key.split(f"resblocks.{layer}.")[1]: v for key, v in p.items() if f"resblocks.{layer}." in key}
        y = F.layer_norm(x, (TEXT_WIDTH,), b["ln_1.weight"], b["ln_1.bias"])[:, None]
        y, _ = F.multi_head_attention_forward(
            y, y, y, TEXT_WIDTH, TEXT_HEADS, b["attn.in_proj_weight"], b["attn.in_proj_bias"], None, None, False, 0.0,
            b["attn.out_proj.weight"], b["attn.out_proj.bias"], training=False, attn_mask=hidden,
        )  # fmt: skip
        x = x + y[:, 0]
        y = F.layer_norm(x, (TEXT_WIDTH,), b["ln_2.weight"], b["ln_2.bias"])
        y = F.linear(y, b["mlp.c_fc.weight"], b["mlp.c_fc.bias"])
        x = x + F.linear(y / (1 + torch.exp(-1.702 * y)), b["mlp.c_proj.weight"], b["mlp.c_proj.bias"])
    x = F.layer_norm(x, (TEXT_WIDTH,), p["ln_final.weight"], p["ln_final.bias"])
    return x, x[-1] @ p["text_projection"]
