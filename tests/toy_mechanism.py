"""A mechanism of a few lines, as a user would write it: each token's own value, and the mean of all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from longread.attention import SelfAttention
from longread.attention.base import Options, setting
from longread.checks import InnerFraction, Positive
from longread.ops.packed import PackedBatch


@dataclass(frozen=True, kw_only=True)
class ToyOptions(Options):
    """own_weight: how much of its own value a token keeps at first."""

    own_weight: InnerFraction = setting(0.5, "Weight of a token's own value, at first.", from_scratch=True)
    gate_rate: Positive = setting(1.0, "Factor of the learning rate for the weight of a token's own value.")


class ToyAttention(SelfAttention):
    Options = ToyOptions
    title = "Toy mean"
    color = "#12ab34"
    supports_attention_dropout = False
    new_parameters = ("gate",)
    steps_seen: Tensor

    def __init__(self, *args, **settings) -> None:  # type: ignore[no-untyped-def]
        super().__init__(*args, **settings)
        own = self.options.own_weight
        self.gate = nn.Parameter(torch.full((self.num_attention_heads, 1), math.log(own / (1 - own))))
        self.register_buffer("steps_seen", torch.zeros((), dtype=torch.long))

    def learning_rate_factors(self) -> dict[str, float]:
        return {"gate": self.options.gate_rate}

    def after_step(self, step: int) -> None:
        self.steps_seen.fill_(step)

    def mix(self, x: Tensor, batch: PackedBatch) -> Tensor:
        value = self.heads(self.value(x))
        sums = value.new_zeros(len(batch.lengths), *value.shape[1:]).index_add(0, batch.sequence_of_token, value)
        means = sums / batch.seqlens[:, None, None].to(value.dtype)
        own = torch.sigmoid(self.gate).to(value.dtype)
        return (own * value + (1 - own) * means.index_select(0, batch.sequence_of_token)).flatten(1)

    def reference(self, x: Tensor) -> tuple[Tensor, Tensor]:
        own = torch.sigmoid(self.gate)[..., None]
        matrix = own * torch.eye(len(x), dtype=x.dtype) + (1 - own) / len(x)
        return self.row_output(matrix @ self.row_heads(self.value, x)), matrix

    def coverage(self, lengths: Sequence[int]) -> dict[str, int]:
        return {"mean": sum(lengths)}

    def flops(self, length: int) -> float:
        return 0.0
