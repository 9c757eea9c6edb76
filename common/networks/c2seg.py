"""C2Seg: "Towards Text-Mask Consistency in Medical Image Segmentation" (under review at ICLR 2026, no code released).

The paper's parts, in the code:
    encoder, three convolutional and two KAN stages .... :mod:`common.networks.image.ukan`
    CLIP's text encoder, frozen ........................ :mod:`common.networks.text`
    stage I, v = W_v GAP(V_4) and l; eqs. 1-3 .......... :class:`Pretraining`, :class:`common.losses.cacl.CaCL`
    eqs. 4-6, complementary attention (BCAM) ........... :class:`BCAM`
    eq. 7, K-Gate ...................................... :class:`Gate`; F_out: :class:`Fusion`
    its ablations: DualA, image only, linear, MLP ...... :class:`DualA`, ``fusion``, ``projection``, ``gate``
    KAN ................................................ :mod:`common.networks.blocks.kan`

At each of the five scales ℓ: L_ℓ = L W_ℓ; F_v, F_l = BCAM(V_ℓ, L_ℓ); F_out = conv1×1[F_v g_v || F_l g_l]. V_ℓ itself
goes on to the next stage of the encoder; F_out,ℓ goes to the decoder, as its input at ℓ = 4 and as its skips above.

Open in the paper, or not as it says, and what was chosen:
- Eq. 6 as printed weighs V_value by 1/P on average (P = H·W: 8e-5 at the finest scale), and the gate makes it smaller
  once more: nothing of the picture's own values would reach the fine skips. Weights are multiplied by P, so that their
  mean is 1; ``eq6_literal`` is the printed equation.
- Padded words take no part: not in softmax_N, not in the mean over words. d of eq. 4 is C_ℓ.
- A layer norm before each KAN layer, for splines are 0 outside ±2.2: of V, L, F_v, F_l, and of the gate's hidden
  channels. The gate multiplies F as it is. Hidden width of the gate 2C: with it, five scales and U-KAN's decoder of
  convolutions, the parameters come closest to the printed 18.92 M.
- Decoder of U-KAN with convolutions: (conv-BN-ReLU)×2, bilinear ×2, plus skip; 256→160→128→32→16→16; 1×1 to a logit.
- DualA: only the vision path, from words that have looked at the picture: F_v = softmax_N(A)(L_value + softmax_P(Aᵀ)
  V_value). So the tokens are updated, and there is no map of the language path.
- After stage I the encoder learns at a tenth of the rate ("a small learning rate"), from random weights at all of it
  (``image_learning_rate`` of the configuration).

Parameters at the paper's sizes: encoder 3.507 M, five fusions 13.587 M, decoder 1.579 M; 18.67 M, and W_v .131 M of
stage I: 18.80 M.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from common.errors import UserError
from common.networks.base import TextNetwork
from common.networks.blocks.kan import KANLinear
from common.networks.image.ukan import PREFIX, UKAN, DoubleConv
from common.networks.text import BertText, ClipText, FrozenText


class BCAM(nn.Module):
    """Eqs. 4-6: both sides look at each other, and both results lie on the picture's grid.

    Args:
        channels: C, of both sides.
        projection: ``"kan"``, or ``"linear"`` for Table 4(a).
        eq6_literal: weights of eq. 6 that sum to 1 over the picture, not to P.
    """

    streams = 2

    def __init__(self, channels: int, projection: Literal["kan", "linear"] = "kan", eq6_literal: bool = False) -> None:
        super().__init__()
        layer = _choice("projection", projection, {"kan": KANLinear, "linear": nn.Linear})
        # key and value in one layer: the bases of what goes in are made once
        self.image, self.text = layer(channels, 2 * channels), layer(channels, 2 * channels)
        self.eq6_literal = eq6_literal

    def scores(self, image: torch.Tensor, text: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """A of eq. 4, (B, P, N), V_value (B, P, C) and L_value (B, N, C), of V (B, P, C) and L (B, N, C)."""
        image_key, image_value = self.image(image).chunk(2, dim=2)
        text_key, text_value = self.text(text).chunk(2, dim=2)
        return image_key @ text_key.transpose(1, 2) * image.shape[2] ** -0.5, image_value, text_value

    def forward(self, image: torch.Tensor, text: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
        """F_v and F_l, each (B, P, C).

        Args:
            image: V (B, P, C), normalised.
            text: L (B, N, C), normalised.
            mask: (B, N) bool, True at words.
        """
        scores, image_value, text_value = self.scores(image, text)
        f_v = _over_words(scores, mask) @ text_value  # eq. 5
        words = mask.to(f_v.dtype)[:, None]  # (B, 1, N)
        weight = (scores.softmax(dim=1) * words).sum(dim=2, keepdim=True) / words.sum(dim=2, keepdim=True)  # (B, P, 1)
        f_l = weight * image_value  # eq. 6
        return [f_v, f_l if self.eq6_literal else f_l * image.shape[1]]


class DualA(BCAM):
    """Table 3 (b): words are updated by the picture, pixels collect the updated words. As of BCAM, but F_v alone."""

    streams = 1

    def forward(self, image: torch.Tensor, text: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
        """F_v (B, P, C), of what :meth:`BCAM.forward` takes."""
        scores, image_value, text_value = self.scores(image, text)
        updated = text_value + scores.softmax(dim=1).transpose(1, 2) @ image_value  # (B, N, C)
        return [_over_words(scores, mask) @ updated]


class Gate(nn.Module):
    """Eq. 7 and what follows it: F ⊙ tanh(KAN₂(ReLU(KAN₁(F)))), a layer norm before each KAN.

    Args:
        channels: C; 2C inside.
        kind: ``"kan"``, or ``"mlp"`` for Table 4(a).
    """

    def __init__(self, channels: int, kind: Literal["kan", "mlp"] = "kan") -> None:
        super().__init__()
        layer = _choice("gate", kind, {"kan": KANLinear, "mlp": nn.Linear, "none": None})
        self.norms = nn.ModuleList((nn.LayerNorm(channels), nn.LayerNorm(2 * channels)))
        self.first, self.second = layer(channels, 2 * channels), layer(2 * channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, P, C) to (B, P, C)."""
        hidden = F.relu(self.first(self.norms[0](x)))
        return x * torch.tanh(self.second(self.norms[1](hidden)))


class Fusion(nn.Module):
    """One scale: words to its channels, attention, a gate for each stream, their mix F_out.

    Args:
        channels: C_ℓ.
        text_width: channels of the words.
        attention: of ``channels``.
        gate: ``"kan"``, ``"mlp"``, or ``"none"``.
        dropout: of F_out.
    """

    def __init__(self, channels: int, text_width: int, attention: BCAM, gate: str, dropout: float) -> None:
        super().__init__()
        self.words = nn.Linear(text_width, channels)
        self.image_norm, self.text_norm = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attention = attention
        self.gates = nn.ModuleList(
            nn.Identity() if gate == "none" else Gate(channels, gate) for _ in range(attention.streams)
        )
        self.out = nn.Conv2d(attention.streams * channels, channels, kernel_size=1)
        self.dropout = nn.Dropout(dropout)

    def sides(self, image: torch.Tensor, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """V_ℓ as (B, P, C) and L_ℓ (B, N, C), normalised, of V_ℓ (B, C, h, w) and words (B, N, text_width)."""
        return self.image_norm(image.flatten(2).transpose(1, 2)), self.text_norm(self.words(states))

    def forward(self, image: torch.Tensor, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """F_out (B, C, h, w) of V_ℓ (B, C, h, w), words (B, N, text_width) and their mask (B, N)."""
        streams = self.attention(*self.sides(image, states), mask)
        gated = [gate(stream) for gate, stream in zip(self.gates, streams, strict=True)]
        joined = torch.cat(gated, dim=2).transpose(1, 2).unflatten(2, image.shape[-2:])  # (B, streams·C, h, w)
        return self.dropout(self.out(joined))


class C2Seg(TextNetwork):
    """Stage II. Height and width must be multiples of the encoder's stride (32).

    ``eq6_literal`` changes no weight's name or shape, so the state dict holds it, and loading compares it: the other
    equation's weights would give another network, and nobody would know.

    Args:
        image_encoder: trained, at a small rate where stage I has trained it.
        text_encoder: frozen.
        default_text: ids of the default sentence.
        in_channels: channels of the image, 1 or 3.
        fusion: ``"bcam"``; ``"dual"`` or ``"none"`` (image only) for Table 3.
        gate: ``"kan"``; ``"mlp"`` for Table 4(a), ``"none"`` for Table 3.
        projection: keys and values of the attention by ``"kan"`` or, for Table 4(a), ``"linear"``.
        eq6_literal: eq. 6 as printed.
        fusion_from: the first scale with fusion, 0 in the paper; V_ℓ is the skip above it. The finest scale costs most
            time and memory.
        dropout: of F_out.
    """

    eq6_literal: torch.Tensor

    def __init__(
        self,
        image_encoder: UKAN,
        text_encoder: BertText | ClipText,
        default_text: Sequence[int],
        in_channels: int = 1,
        fusion: Literal["bcam", "dual", "none"] = "bcam",
        gate: Literal["kan", "mlp", "none"] = "kan",
        projection: Literal["kan", "linear"] = "kan",
        eq6_literal: bool = False,
        fusion_from: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            in_channels, image_encoder.stride, default_text, text_encoder.vocab_size, text_encoder.max_length
        )
        self.image_encoder = image_encoder
        self.text_encoder = FrozenText(text_encoder)
        widths = image_encoder.widths
        attention = _choice("fusion", fusion, {"bcam": BCAM, "dual": DualA, "none": None})
        self.fusions = nn.ModuleList(
            Fusion(width, text_encoder.width, attention(width, projection, eq6_literal), gate, dropout)
            for width in (widths[fusion_from:] if attention else ())
        )
        # False where there is no eq. 6
        self.register_buffer("eq6_literal", torch.tensor(attention is BCAM and eq6_literal, device="cpu"))
        steps = (*reversed(widths), widths[0])
        self.decoder = nn.ModuleList(DoubleConv(i, i, o) for i, o in pairwise(steps))
        self.head = nn.Conv2d(widths[0], 1, kernel_size=1)

    def outputs(self, image: torch.Tensor, text: torch.Tensor) -> dict[str, torch.Tensor]:
        """``{"pred": logits (B, 1, H, W)}``."""
        maps = self.image_encoder(image)  # V_0 to V_4
        if self.fusions:
            states = self.text_encoder(text)[:, -1]  # L (B, N, text width)
            above = len(maps) - len(self.fusions)
            fused = [fuse(v, states, text != 0) for fuse, v in zip(self.fusions, maps[above:], strict=True)]
            maps = [*maps[:above], *fused]
        return {"pred": self.decode(maps)}

    def misfit(self, given: Mapping[str, Any]) -> str:
        """As of every network with text; and whether ``given`` was trained with the same eq. 6."""
        fault = super().misfit(given)
        if fault:
            return fault
        theirs, own = bool(given["eq6_literal"]), bool(self.eq6_literal)
        return "" if theirs == own else f"they were trained with network_def::eq6_literal {theirs}, here it is {own}"

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # weights that are older than the buffer are those of the default
        state_dict.setdefault(f"{prefix}eq6_literal", torch.tensor(False))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def decode(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        """Maps of all scales, the finest first, to logits (B, 1, H, W)."""
        x, *skips = reversed(maps)
        for number, mix in enumerate(self.decoder):
            x = F.interpolate(mix(x), scale_factor=2.0, mode="bilinear")
            if number < len(skips):
                x = x + skips[number]
        return self.head(x)

    @torch.no_grad()
    def word_attention(self, image: torch.Tensor, text: torch.Tensor | None = None, scale: int = 2) -> torch.Tensor:
        """Where in the picture each word is looked at: its column of softmax_N(A), the cells' look of eq. 5.

        In softmax_P(Aᵀ) of eq. 6 words look at cells; after training all of them look at the same ones.

        Args:
            image: (B, in_channels, H, W).
            text: ids (B, L); None for the default sentence.
            scale: ℓ, 0 to 4; at 2 the grid has 28² cells at 224².

        Returns:
            (B, L, h, w); each word's sums to 1 over the picture, that of padding is 0.

        Raises:
            UserError: no such scale, a network without words, or image or ids do not fit.
        """
        scales = len(self.image_encoder.widths)
        fused = range(scales - len(self.fusions), scales)
        if scale not in fused:
            known = f"expected {fused[0]} to {fused[-1]}" if fused else "the network has no fusion"
            raise UserError(f"word_attention: scale {scale}, {known}")
        self.check_image(image)
        text = self.prompt(text, image)
        grid, fuse = self.image_encoder(image)[scale], self.fusions[scale - fused[0]]
        scores, *_ = fuse.attention.scores(*fuse.sides(grid, self.text_encoder(text)[:, -1]))  # (B, P, N)
        looks = _over_words(scores, text != 0)  # sums to 1 over the words
        looks = looks / looks.sum(dim=1, keepdim=True).clamp_min(torch.finfo(looks.dtype).tiny)
        return looks.transpose(1, 2).unflatten(2, grid.shape[-2:])


class Pretraining(TextNetwork):
    """Stage I: a vector v of the picture beside the sentence's l, for :class:`common.losses.cacl.CaCL`.

    It has the encoders of the :class:`C2Seg` that is made of the same arguments; the encoder of its weights is what
    ``stage_one`` of :class:`common.networks.image.ukan.UKAN` takes.

    Args:
        image_encoder: trained.
        text_encoder: frozen; its sentence vector is l.
        default_text: ids of the default sentence.
        in_channels: channels of the image, 1 or 3.
        stage_two: what else C2Seg takes, for the same configuration makes either; stage I has no use for it.

    Raises:
        UserError: C2Seg does not take that either.
    """

    def __init__(
        self,
        image_encoder: UKAN,
        text_encoder: BertText | ClipText,
        default_text: Sequence[int],
        in_channels: int = 1,
        **stage_two: Any,
    ) -> None:
        known = inspect.signature(C2Seg).parameters
        foreign = [key for key in stage_two if key not in known]
        if foreign:
            raise UserError(f"network_def: neither stage takes {foreign[0]!r}, expected one of {', '.join(known)}")
        super().__init__(
            in_channels, image_encoder.stride, default_text, text_encoder.vocab_size, text_encoder.max_length
        )
        self.image_encoder = image_encoder
        self.text_encoder = FrozenText(_Sentence(text_encoder))
        self.project = nn.Linear(image_encoder.widths[-1], text_encoder.sentence_width, bias=False)  # W_v

    def outputs(self, image: torch.Tensor, text: torch.Tensor) -> dict[str, torch.Tensor]:
        """``{"pred": v and l, (B, 2, D)}``, neither of them normalised."""
        v = self.project(self.image_encoder(image)[-1].mean(dim=(-2, -1)))  # (B, D)
        return {"pred": torch.stack((v, self.text_encoder(text).to(v.dtype)), dim=1)}


class _Sentence(nn.Module):
    """A text encoder's sentence vector as what it gives."""

    def __init__(self, encoder: BertText | ClipText) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.encoder.sentence(ids)


def parameter_groups(
    network: nn.Module, learning_rate: float, encoder_rate: float, stage_one: str | None
) -> list[dict[str, Any]]:
    """For an optimiser: the image encoder with its own rate, all else; says which stage I the encoder comes from.

    Args:
        network: a :class:`C2Seg`, perhaps wrapped for several GPUs.
        learning_rate: of all but the encoder.
        encoder_rate: of the encoder.
        stage_one: the weights that the encoder began with, or None.
    """
    start = f"the encoder is that of {stage_one}" if stage_one else "none, the encoder starts at random"
    more = "" if stage_one else "; --image_checkpoint FILE gives one, and the encoder a tenth of the rate"
    logging.getLogger("stage I").info("%s, learning rate %g%s", start, encoder_rate, more)
    parts: dict[bool, list[nn.Parameter]] = {False: [], True: []}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            parts[PREFIX in name].append(parameter)
    return [{"params": parts[False], "lr": learning_rate}, {"params": parts[True], "lr": encoder_rate}]


def _over_words(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """softmax_N(A), (B, P, N), 0 at padding."""
    return scores.masked_fill(~mask[:, None], float("-inf")).softmax(dim=2)


def _choice(name: str, given: str, known: dict[str, Any]) -> Any:
    """What stands for that word, or one line."""
    if given not in known:
        raise UserError(f"network_def {name}: {given!r}, expected one of {', '.join(known)}")
    return known[given]
