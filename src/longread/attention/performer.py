"""Performer: softmax attention by positive orthogonal random features (FAVOR+, Choromanski et al. 2021, section 2).

exp(q·k / √D) is the expectation of φ(q)·φ(k) with φ(x) = exp(w·x' − |x'|²/2), x' = x / D^¼ (lemma 1), so the sums over
keys can be taken once for all queries, in time and memory linear in N.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from longread.attention.base import Rows, SelfAttention, split
from longread.attention.favor import favor

# Added to every feature, as the authors' code does, so that a query far from every key still has a denominator.
FEATURE_FLOOR = 1e-6


@dataclass(frozen=True, kw_only=True)
class PerformerOptions:
    """num_features per head (None: round(D · ln D), the paper's order); redraw_steps: new features after so many

    training steps (None: never), which `redraw` does and evaluation never.
    """

    num_features: int | None = None
    redraw_steps: int | None = None

    def __post_init__(self) -> None:
        if self.num_features is not None and self.num_features < 1:
            raise ValueError(f"num_features is {self.num_features}; it must be 1 or more")
        if self.redraw_steps is not None and self.redraw_steps < 1:
            raise ValueError(f"redraw_steps is {self.redraw_steps}; it must be 1 or more training steps")


class PerformerAttention(SelfAttention):
    Options = PerformerOptions
    features: Tensor
    draws: Tensor

    def __init__(self, *args, **settings) -> None:  # type: ignore[no-untyped-def]
        super().__init__(*args, **settings)
        count = self.options.num_features or max(1, round(self.head_dim * math.log(self.head_dim)))
        self.num_features = count
        self.register_buffer("draws", torch.zeros((), dtype=torch.long))
        self.register_buffer("features", self._draw(0))  # [num_features, D]

    def _draw(self, number: int) -> Tensor:
        seed = (self.seed * 1_000_003 + self.layer) * 1_000_003 + number
        return orthogonal_features(self.num_features, self.head_dim, seed)

    @torch.no_grad()
    def redraw(self) -> None:
        """New random features, the next of this layer's seeded sequence."""
        self.draws += 1
        self.features.copy_(self._draw(int(self.draws)))

    def mix(self, x: Tensor, rows: Rows) -> Tensor:
        query, key, value = (self.heads(project(x)) for project in (self.query, self.key, self.value))
        mixed = []
        parts = (split(heads, rows.groups) for heads in (query, key, value))
        for group, *own in zip(rows.groups, *parts, strict=True):
            q, k, v = (group.pad(heads).transpose(1, 2) for heads in own)
            mixed.append(group.pack(favor(q, k, v, self.features, group.valid, FEATURE_FLOOR)))
        return torch.cat(mixed).flatten(1)

    def reference(self, x: Tensor) -> tuple[Tensor, Tensor]:
        q, k, v = (self.row_heads(project, x) for project in (self.query, self.key, self.value))
        q, k = q / self.head_dim**0.25, k / self.head_dim**0.25
        q_log = torch.einsum("hnd,md->hnm", q, self.features) - q.square().sum(-1, keepdim=True) / 2
        k_log = torch.einsum("hnd,md->hnm", k, self.features) - k.square().sum(-1, keepdim=True) / 2
        q_phi = torch.exp(q_log - q_log.detach().amax(2, keepdim=True)) + FEATURE_FLOOR
        k_phi = torch.exp(k_log - k_log.detach().amax((1, 2), keepdim=True)) + FEATURE_FLOOR
        kernel = torch.einsum("hnm,hjm->hnj", q_phi, k_phi)
        matrix = kernel / kernel.sum(-1, keepdim=True)
        return self.row_output(matrix @ v), matrix

    def kinds(self, lengths: Sequence[int]) -> dict[str, int]:
        return {"random features": sum(lengths)}

    def flops(self, length: int) -> float:
        maps = 4.0 * length * self.num_features * self.head_dim
        products = 4.0 * length * self.num_features * self.head_dim
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
