"""Performer: softmax attention by positive orthogonal random features (FAVOR+, Choromanski et al. 2021, section 2).

exp(q·k / √D) is the expectation of φ(q)·φ(k) with φ(x) = exp(w·x' − |x'|²/2), x' = x / D^¼ (lemma 1), so the sums over
keys can be taken once for all queries, in time and memory linear in N.

Two settings go beyond the paper. With q̄ and k̄ the means over a sequence, q·k = (q − q̄)·(k − k̄) + q̄·k + a term that
all keys of a query share, which the softmax does not see: `centred` leaves the first product to the features, whose
variance grows with e to the power of the norms, and computes the second exactly, one weight for each key.
`learned_features` are trained as any weight, each head its own; so are the feature maps of Hedgehog (Zhang et al.
2024).

A relative position bias b, which the paper does not have, is exact: the kernel is exp(b) φ(q)·φ(k), still linear in N
(ops/favor_offsets.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from longread.attention.base import Options, SelfAttention, setting
from longread.checks import Count, Rule
from longread.errors import UserError
from longread.ops import favor_offsets
from longread.ops.favor import favor
from longread.ops.packed import PackedBatch, bias_from, join, split

# Added to every feature, as the authors' code does, so that a query far from every key still has a denominator.
FEATURE_FLOOR = 1e-6


# Converted from dense: features per head, in units of D ln D; the paper's order follows a trained softmax too loosely.
FEATURES_PER_D_LOG_D = 4
# How much of a score is kept then: the fewer features, the flatter the softmax that they follow at all. Measured on
# film reviews of 30 to 400 tokens against all-MiniLM-L6-v2: best were .5 for 64 features of 32 dimensions, .7 for 443
# and for 2,048; the sentence vectors came up to .1 nearer to the dense ones in cosine than with whole scores.
# Centring the keys alone, or balancing queries against keys, which dense attention would not see, brought nothing.
SOFTENING = 0.6
# The same where the features follow differences from the means alone. Measured on the attention's outputs on texts of
# QNLI and SST-2: best were .4 for 64 features, .5 for 443.
SOFTENING_CENTRED = 1.2


@dataclass(frozen=True, kw_only=True)
class PerformerOptions(Options):
    """centred, learned_features: see above. sharpness: what the scores that the features follow are multiplied with."""

    num_features: Count | None = setting(None, "Random features of each head. Default: by the width of a head.")
    redraw_steps: Count | None = setting(None, "Draw new features after so many training steps. Default: never.")
    centred: bool = setting(
        False, "Features follow the differences from a text's mean query and key; the rest of a score is exact."
    )
    learned_features: bool = setting(False, "Features that begin at random and are trained, each head its own.")
    sharpness: Annotated[float, Rule("above 0 and at most 1", lambda x: 0 < x <= 1)] = setting(
        1.0, "What scores are multiplied with. Default 1; converted from dense, by the number of features."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.redraw_steps is not None and self.learned_features:
            raise UserError("redraw_steps would undo learned_features; leave one of them out")


def paper_features(head_dim: int) -> float:
    """D ln D, the order of features that the paper's error bound asks for (theorem 4)."""
    return head_dim * math.log(head_dim)


class PerformerAttention(SelfAttention):
    Options = PerformerOptions
    title = "Performer"
    color = "#009e73"
    supports_rotary = True
    supports_relative_bias = True
    supports_attention_dropout = False
    new_parameters = ("features",)
    features: Tensor
    draws: Tensor

    def __init__(self, *args, **settings) -> None:  # type: ignore[no-untyped-def]
        super().__init__(*args, **settings)
        count = self.options.num_features or max(1, round(paper_features(self.head_dim)))
        self.num_features = count
        self.register_buffer("draws", torch.zeros((), dtype=torch.long))
        if self.options.learned_features:  # [H, num_features, D]
            drawn = torch.stack([self._draw(head) for head in range(self.num_attention_heads)])
            self.features = nn.Parameter(drawn)
        else:
            self.register_buffer("features", self._draw(0))  # [num_features, D], all heads alike

    @classmethod
    def published_sizes(cls, head_dim: int) -> dict[str, Any]:
        return {"num_features": max(1, round(paper_features(head_dim)))}

    @classmethod
    def conversion_options(cls, given: Mapping[str, Any], head_dim: int) -> dict[str, Any]:
        """More features than from scratch, and scores as flat as so many features can follow."""
        options = dict(given)
        if options.get("num_features") is None:
            options["num_features"] = max(1, round(FEATURES_PER_D_LOG_D * paper_features(head_dim)))
        if options.get("sharpness") is None and options["num_features"] > 0:
            softening = SOFTENING_CENTRED if options.get("centred") else SOFTENING
            wealth = options["num_features"] / max(1.0, paper_features(head_dim))
            options["sharpness"] = 1 / (1 + softening * wealth**-0.25)
        return options

    def after_step(self, step: int) -> None:
        if self.options.redraw_steps and step % self.options.redraw_steps == 0:
            self.redraw()

    def _draw(self, number: int) -> Tensor:
        seed = (self.seed * 1_000_003 + self.layer) * 1_000_003 + number
        return orthogonal_features(self.num_features, self.head_dim, seed)

    @torch.no_grad()
    def redraw(self) -> None:
        """New random features, the next of this layer's seeded sequence."""
        self.draws += 1
        self.features.copy_(self._draw(int(self.draws)))

    def mix(self, x: Tensor, batch: PackedBatch) -> Tensor:
        query, key, value = self.packed_heads(x, batch)
        mixed, vector = [], self.relative_vector()
        parts = (split(heads, batch.groups) for heads in (query, key, value))
        for group, *own in zip(batch.groups, *parts, strict=True):
            q, k, v = (group.pad(heads).transpose(1, 2) for heads in own)
            q, k, weight = self._followed(q, k, group.valid)
            given = q, k, v, self.features, weight, group.valid, FEATURE_FLOOR
            mixed.append(group.pack(favor(*given) if vector is None else favor_offsets.favor_by_offset(*given, vector)))
        return join(mixed).flatten(1)

    def _followed(self, query: Tensor, key: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """[b, H, N, D], padding zero -> what the features follow of query and key, and the keys' exact log-weights."""
        root, weight = math.sqrt(self.options.sharpness), None
        if self.options.centred:
            wide = torch.promote_types(torch.float32, query.dtype)
            tokens = query.shape[2] if valid is None else valid.sum(1)[:, None, None, None]
            # The same product comes out around any two points: around the means as rounded to bfloat16 too, if what is
            # subtracted is what the exact product takes. That one is an exponent, so it is in float32, whatever
            # autocast says.
            q_mean, k_mean = ((t.sum(2, keepdim=True, dtype=wide) / tokens).to(t.dtype) for t in (query, key))
            with torch.autocast(query.device.type, enabled=False):
                weight = (key.to(wide) @ q_mean.to(wide).transpose(2, 3)).squeeze(3) * self.scale
            query, key = query - q_mean, key - k_mean
        return (query, key, weight) if root == 1 else (query * root, key * root, weight)

    def reference(self, x: Tensor) -> tuple[Tensor, Tensor]:
        q, k, v = self.row_heads_of(x)
        exact = torch.zeros_like(k[..., :1])
        if self.options.centred:
            exact = k @ q.mean(1, keepdim=True).transpose(1, 2) * self.scale
            q, k = q - q.mean(1, keepdim=True), k - k.mean(1, keepdim=True)
        root = math.sqrt(self.options.sharpness) / self.head_dim**0.25
        q, k = q * root, k * root
        features = self.features.expand(q.shape[0], -1, -1)
        q_log = torch.einsum("hnd,hmd->hnm", q, features) - q.square().sum(-1, keepdim=True) / 2
        k_log = torch.einsum("hnd,hmd->hnm", k, features) - k.square().sum(-1, keepdim=True) / 2 + exact
        q_phi = torch.exp(q_log - q_log.detach().amax(2, keepdim=True)) + FEATURE_FLOOR
        k_phi = torch.exp(k_log - k_log.detach().amax((1, 2), keepdim=True)) + FEATURE_FLOOR
        kernel = torch.einsum("hnm,hjm->hnj", q_phi, k_phi)
        if isinstance(bias := self.row_bias(x.shape[0]), Tensor):
            kernel = kernel * torch.exp(bias - bias.detach().amax(2, keepdim=True))
        matrix = kernel / kernel.sum(-1, keepdim=True)
        return self.row_output(matrix @ v), matrix

    def padded(self, x: Tensor, real: Tensor) -> Tensor:
        q, k, v = self.padded_heads_of(x)
        there = real[:, None, :, None]
        tokens = real.sum(1).clamp(min=1)[:, None, None, None]
        q, k, v = (heads * there for heads in (q, k, v))
        exact = torch.zeros_like(k[..., :1])
        if self.options.centred:
            q_mean, k_mean = (heads.sum(2, keepdim=True) / tokens for heads in (q, k))
            exact = k @ q_mean.transpose(2, 3) * self.scale
            q, k = q - q_mean, k - k_mean
        root = math.sqrt(self.options.sharpness) / self.head_dim**0.25
        features = self.features.transpose(-1, -2)  # [D, M] or [H, D, M]
        q_log = (q * root) @ features
        k_log = (k * root) @ features - (k * root).square().sum(-1, keepdim=True) / 2 + exact
        q_phi = torch.exp(q_log - q_log.amax(-1, keepdim=True)) + FEATURE_FLOOR
        k_log = k_log.masked_fill(~there, torch.finfo(k_log.dtype).min / 4)
        k_phi = (torch.exp(k_log - k_log.amax((2, 3), keepdim=True)) + FEATURE_FLOOR) * there
        if isinstance(bias := self.row_bias(x.shape[1]), Tensor):  # a graph of any length forms the whole kernel
            bias = bias + bias_from(real, x.dtype)[:, None, None, :]
            kernel = (q_phi @ k_phi.mT) * torch.exp(bias - bias.amax(-1, keepdim=True))
            mixed, total = kernel @ v, kernel.sum(-1, keepdim=True)
        else:
            mixed = q_phi @ (k_phi.mT @ v)
            total = q_phi @ k_phi.sum(2).unsqueeze(-1)
        return self.output((mixed / total.clamp(min=1e-30)).transpose(1, 2).flatten(2))

    def coverage(self, lengths: Sequence[int]) -> dict[str, int]:
        return {"learned features" if self.options.learned_features else "random features": sum(lengths)}

    def flops(self, length: int) -> float:
        maps = products = 4.0 * length * self.num_features * self.head_dim
        if self.relative is not None:
            products = favor_offsets.flops(length, self.relative.max_distance, self.num_features, self.head_dim)
        return (maps + products) * self.num_attention_heads


def orthogonal_features(count: int, dim: int, seed: int) -> Tensor:
    """[count, dim]: rows of blocks of orthogonal directions, each as long as a Gaussian vector (section 2.4)."""
    generator = torch.Generator().manual_seed(seed % 2**63)
    blocks = []
    for _ in range(-(-count // dim)):
        q, r = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64))
        blocks.append((q * r.diagonal().sign()).t())  # the sign makes Q uniform over rotations
    lengths = torch.randn(count, dim, generator=generator, dtype=torch.float64).norm(dim=1)
    return (torch.cat(blocks)[:count] * lengths[:, None]).float()
