"""Local attention: every token over a sliding window and nothing else, as in most layers of ModernBERT.

(Warner et al. 2024, section 2.1.2.) Between such layers stand some with full attention; alone, a token learns of others
as far away as the window reaches in all layers together.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from longread.attention.base import Options, SelfAttention, setting
from longread.checks import EvenCount
from longread.ops import short, varlen
from longread.ops.band import band
from longread.ops.offsets import attend_by_offset
from longread.ops.packed import PackedBatch, join, split
from longread.ops.tile import Tile
from longread.ops.tiled import attend
from longread.ops.windows import windows


@dataclass(frozen=True, kw_only=True)
class LocalOptions(Options):
    """local_window counts both sides: 128 = 64 to the left and 64 to the right."""

    local_window: EvenCount = setting(128, "Tokens of the window, both sides together.")


class LocalAttention(SelfAttention):
    Options = LocalOptions
    title = "Local"
    color = "#8c6d31"
    stands_alone = False
    supports_rotary = True
    supports_relative_bias = True

    @classmethod
    def published_sizes(cls, head_dim: int) -> dict[str, Any]:
        return {"local_window": 128}

    @property
    def side(self) -> int:
        return int(self.options.local_window) // 2

    @property
    def plan_key(self) -> Hashable:
        return type(self), self.side

    def plan(self, batch: PackedBatch, dtype: torch.dtype, gradients: bool) -> list[tuple[Tile, ...] | None]:
        super().plan(batch, dtype, gradients)
        if self.is_short(batch, dtype, gradients):
            short.planned(batch, self.num_attention_heads)
        return [
            band(group, group.planned_valid, 0, self.side, dtype) if group.longest > self.side + 1 else None
            for group in batch.groups
        ]

    def is_short(self, batch: PackedBatch, dtype: torch.dtype, gradients: bool | None = None) -> bool:
        return batch.longest <= self.side + 1 and super().is_short(batch, dtype, gradients)

    def mix(self, x: Tensor, batch: PackedBatch) -> Tensor:
        if self.is_short(batch, x.dtype):
            return self.mix_short(x, batch)
        packed = self.packed_heads(x, batch)
        plan = self.planned(batch, packed[0].dtype)
        vector = self.relative_vector()
        if vector is None and varlen.has_kernel(packed[0], self.dropping):
            return varlen.attend_packed(*packed, batch, self.side).flatten(1)
        mixed = []
        for group, tiles, *own in zip(batch.groups, plan, *(split(h, batch.groups) for h in packed), strict=True):
            q, k, v = (group.pad(heads).transpose(1, 2) for heads in own)
            bias = group.key_bias(q.dtype) if tiles is None else None
            if vector is None:
                made = attend(q, k, v, tiles=tiles, bias=bias, dropout=self.dropping)
            else:
                made = attend_by_offset(q, k, v, vector, tiles=tiles, bias=bias, dropout=self.dropping)
            mixed.append(group.pack(made))
        return join(mixed).flatten(1)

    def reference(self, x: Tensor) -> tuple[Tensor, Tensor]:
        position = torch.arange(x.shape[0], device=x.device)
        near = (position[:, None] - position).abs() <= self.side
        q, k, v = self.row_heads_of(x)
        scores = (q @ k.transpose(-1, -2) * self.scale + self.row_bias(x.shape[0])).masked_fill(~near, -torch.inf)
        matrix = torch.softmax(scores, dim=-1)
        return self.row_output(matrix @ v), matrix

    def padded(self, x: Tensor, real: Tensor) -> Tensor:
        """Blocks as long as one side of the window, each with its neighbours."""
        q, k, v = self.padded_heads_of(x)
        blocks, near_k, near_v, bias = windows(q * self.scale, k, v, real, self.side, self.relative_vector())
        mixed = torch.softmax(blocks @ near_k.mT + bias, dim=-1) @ near_v
        return self.output(mixed.flatten(2, 3)[:, :, : x.shape[1]].transpose(1, 2).flatten(2))

    def coverage(self, lengths: Sequence[int]) -> dict[str, int]:
        full = sum(n for n in lengths if n <= self.side + 1)
        return {"full": full, "window": sum(lengths) - full}

    def flops(self, length: int) -> float:
        pairs = sum(min(length, i + self.side + 1) - max(0, i - self.side) for i in range(length))
        return 4.0 * pairs * self.num_attention_heads * self.head_dim
