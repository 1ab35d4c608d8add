"""Full softmax attention (Vaswani et al. 2017, section 3.2), fused: the baseline the others must beat."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from longread.attention.base import SelfAttention
from longread.ops import short, varlen
from longread.ops.int8 import through
from longread.ops.offsets import attend_by_offset
from longread.ops.packed import PackedBatch, bias_from, join, split
from longread.ops.tiled import attend


class DenseAttention(SelfAttention):
    title = "Dense"
    color = "#3a3f47"
    supports_rotary = True
    supports_relative_bias = True
    spares_queries = True

    def plan(self, batch: PackedBatch, dtype: torch.dtype, gradients: bool) -> None:
        super().plan(batch, dtype, gradients)
        if self.is_short(batch, dtype, gradients):
            short.planned(batch, self.num_attention_heads)

    def mix(self, x: Tensor, batch: PackedBatch) -> Tensor:
        if self.is_short(batch, x.dtype):
            return self.mix_short(x, batch)
        query, key, value = self.packed_heads(x, batch)
        vector = self.relative_vector()
        if vector is None and varlen.has_kernel(query, self.dropping):
            return varlen.attend_packed(query, key, value, batch).flatten(1)
        mixed = []
        parts = (split(heads, batch.groups) for heads in (query, key, value))
        for group, *own in zip(batch.groups, *parts, strict=True):
            q, k, v = (group.pad(heads).transpose(1, 2) for heads in own)
            bias, dropout = group.key_bias(q.dtype), self.dropping
            if vector is None:
                made = attend(q, k, v, bias=bias, dropout=dropout)
            else:
                made = attend_by_offset(q, k, v, vector, bias=bias, dropout=dropout)
            mixed.append(group.pack(made))
        return join(mixed).flatten(1)

    def mix_first(self, x: Tensor, batch: PackedBatch) -> Tensor:
        if x.device.type != "cpu":  # an accelerator's kernel takes all queries at once
            return super().mix_first(x, batch)
        query = self.heads(self.query(x.index_select(0, batch.first_tokens)))  # rotary positions turn the first by 0
        key, value = map(self.heads, through(x, self.key, self.value))
        key = key if self.rotary_base is None else self.packed_turned(key, batch)
        vector, dropout = self.relative_vector(), self.dropping
        mixed = []
        parts = (split(heads, batch.groups) for heads in (key, value))
        queries = query.unsqueeze(2).split([group.count for group in batch.groups])
        for group, q, *own in zip(batch.groups, queries, *parts, strict=True):
            k, v = (group.pad(heads).transpose(1, 2) for heads in own)
            bias = group.key_bias(q.dtype)
            if vector is None:
                mixed.append(attend(q, k, v, bias=bias, dropout=dropout))
            else:
                mixed.append(attend_by_offset(q, k, v, vector, bias=bias, dropout=dropout))
        return join(mixed).flatten(1)

    def reference(self, x: Tensor) -> tuple[Tensor, Tensor]:
        q, k, v = self.row_heads_of(x)
        matrix = torch.softmax(q @ k.transpose(-1, -2) * self.scale + self.row_bias(x.shape[0]), dim=-1)
        return self.row_output(matrix @ v), matrix

    def padded(self, x: Tensor, real: Tensor) -> Tensor:
        q, k, v = self.padded_heads_of(x)
        bias = bias_from(real, x.dtype)[:, None, None, :]
        if self.has_relative:  # the exporter cannot take apart the fused operator with a bias for each head
            mixed = torch.softmax(q @ k.mT * self.scale + bias + self.row_bias(x.shape[1]), dim=-1) @ v
        else:
            mixed = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.output(mixed.transpose(1, 2).flatten(2))

    def coverage(self, lengths: Sequence[int]) -> dict[str, int]:
        return {"full": sum(lengths)}

    def flops(self, length: int) -> float:
        return 4.0 * length**2 * self.num_attention_heads * self.head_dim
