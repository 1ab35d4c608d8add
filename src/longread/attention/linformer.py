"""Linformer: keys and values projected along the sequence to a fixed number of slots (Wang et al. 2020, section 4).

softmax(Q (E K)ᵀ) (F V), where E and F are shared by the heads ("headwise sharing" in the paper). For a row of N tokens
the projections are cut to its first N positions, and slots from min(N, projection_size) on are masked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from longread.attention.base import Rows, SelfAttention, bias_from, split
from longread.attention.softmax import attend


class _Fold(torch.autograd.Function):
    """Each row folded onto its slots: x [T, hidden] -> [B, slots, hidden], and what a constant folds to [B, slots].

    One product a row, without padding; the projection's gradient is gathered in one place, where slices of it would
    each bring a gradient as large as the whole.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, projection: Tensor, lengths: tuple[int, ...]
    ) -> tuple[Tensor, Tensor]:
        dtype = torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else x.dtype
        longest, most = max(lengths), min(max(lengths), projection.shape[1])
        low, used = x.to(dtype), projection[:longest, :most].to(dtype)
        folded = low.new_zeros(len(lengths), most, x.shape[1])
        # Sums over the first N positions, for every N at once.
        sums = projection[:longest, :most].cumsum(0)[torch.tensor(lengths, device=x.device) - 1]
        for row, own in enumerate(low.split(lengths)):
            length = len(own)
            slots = min(length, most)
            torch.mm(used[:length, :slots].t(), own, out=folded[row, :slots])
        slot = torch.arange(most, device=x.device)
        sums = sums * (slot < torch.tensor(lengths, device=x.device)[:, None])
        ctx.save_for_backward(x, projection)
        ctx.lengths, ctx.dtype = lengths, dtype
        return folded, sums

    @staticmethod
    def backward(ctx: Any, grad: Tensor, grad_sums: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, projection = ctx.saved_tensors
        lengths = ctx.lengths
        longest, most = max(lengths), min(max(lengths), projection.shape[1])
        low, used = x.to(ctx.dtype), projection[:longest, :most].to(ctx.dtype)
        d_x = torch.empty_like(low)
        d_projection = torch.zeros_like(projection)
        for row, (own, d_own) in enumerate(zip(low.split(lengths), d_x.split(lengths), strict=True)):
            length = len(own)
            slots = min(length, most)
            d_row = grad[row, :slots]
            torch.mm(used[:length, :slots], d_row, out=d_own)
            d_projection[:length, :slots] += own @ d_row.t()
            d_projection[:length, :slots] += grad_sums[row, :slots]
        return d_x.to(x.dtype), d_projection, None


@dataclass(frozen=True, kw_only=True)
class LinformerOptions:
    """projection_size: the number of slots that keys and values are projected to."""

    projection_size: int = 128

    def __post_init__(self) -> None:
        if self.projection_size < 1:
            raise ValueError(f"projection_size is {self.projection_size}; it must be 1 or more slots")


class LinformerAttention(SelfAttention):
    Options = LinformerOptions

    def __init__(self, *args, **settings) -> None:  # type: ignore[no-untyped-def]
        super().__init__(*args, **settings)
        slots = self.options.projection_size
        # [max_length, slots]: column s says how much each position gives to slot s.
        self.key_projection = nn.Parameter(torch.empty(self.max_length, slots))
        self.value_projection = nn.Parameter(torch.empty(self.max_length, slots))
        for projection in (self.key_projection, self.value_projection):
            nn.init.normal_(projection, std=slots**-0.5)

    def mix(self, x: Tensor, rows: Rows) -> Tensor:
        for length in rows.lengths:
            self._check(length)
        query = self.heads(self.query(x))
        keys = self._project(x, self.key_projection, self.key, rows).to(query.dtype)
        values = self._project(x, self.value_projection, self.value, rows).to(query.dtype)
        mixed = []
        counts = [group.count for group in rows.groups]
        parts = split(query, rows.groups), keys.split(counts), values.split(counts)
        for group, own, k, v in zip(rows.groups, *parts, strict=True):
            q = group.pad(own).transpose(1, 2)
            slots = min(group.longest, self.options.projection_size)
            k, v = (t[:, :slots].transpose(1, 2) for t in (k, v))
            bias = None
            if group.valid is not None and min(group.lengths) < slots:
                bias = bias_from(group.valid[:, :slots], q.dtype)[:, None, None, :]
            mixed.append(group.pack(attend(q, k, v, bias=bias)))
        return torch.cat(mixed).flatten(1)

    def _project(self, x: Tensor, projection: Tensor, linear: nn.Linear, rows: Rows) -> Tensor:
        """x [T, hidden] -> keys or values of the slots [B, slots, H, D].

        Along the sequence first: Eᵀ (x W) = (Eᵀ x) W, and W then meets `slots` rows instead of N.
        """
        folded, weight = _Fold.apply(x, projection, rows.lengths)  # type: ignore[no-untyped-call]
        return self.heads(nn.functional.linear(folded, linear.weight) + weight.unsqueeze(-1) * linear.bias)

    def _check(self, length: int) -> None:
        if length > self.max_length:
            raise ValueError(
                f"a row has {length} tokens; this Linformer's projection has {self.max_length} positions (max_length)"
            )

    def reference(self, x: Tensor) -> tuple[Tensor, Tensor]:
        length = x.shape[0]
        self._check(length)
        slots = min(length, self.options.projection_size)
        q, k, v = (self.row_heads(project, x) for project in (self.query, self.key, self.value))
        to_keys, to_values = self.key_projection[:length, :slots], self.value_projection[:length, :slots]
        shares = torch.softmax(q @ (to_keys.t() @ k).transpose(-1, -2) * self.scale, dim=-1)  # [H, N, slots]
        matrix = shares @ to_values.t()
        return self.row_output(matrix @ v), matrix

    def kinds(self, lengths: Sequence[int]) -> dict[str, int]:
        return {"projected": sum(lengths)}

    def flops(self, length: int) -> float:
        slots = min(length, self.options.projection_size)
        inner, hidden = self.num_attention_heads * self.head_dim, self.query.in_features
        # Both folds, the slots' key and value projections in place of the tokens', and the attention itself.
        saved = 4.0 * (length - slots) * hidden * inner
        return 4.0 * length * slots * hidden + 4.0 * length * slots * inner - saved
