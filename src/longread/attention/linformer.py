"""Linformer: keys and values projected along the sequence to a fixed number of slots (Wang et al. 2020, section 4).

softmax(Q (E K)ᵀ) (F V), where E and F are shared by the heads ("headwise sharing" in the paper). For a row of N tokens the
projections are cut to its first N positions, and slots from min(N, projection_size) on are masked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from longread.attention.base import Group, Rows, SelfAttention, bias_from
from longread.attention.softmax import attend


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
        query = self.heads(self.query(x))
        mixed = []
        for group in rows.groups:
            tokens = group.pad(x)
            k = self._project(tokens, self.key_projection, self.key, group).to(query.dtype)
            v = self._project(tokens, self.value_projection, self.value, group).to(query.dtype)
            q = group.pad(query).transpose(1, 2)
            bias = None
            if group.valid is not None and min(group.lengths) < self.options.projection_size:
                bias = bias_from(group.valid[:, : k.shape[2]], q.dtype)[:, None, None, :]
            mixed.append(group.pack(attend(q, k, v, bias=bias)))
        return torch.cat(mixed).flatten(1)

    def _project(self, tokens: Tensor, projection: Tensor, linear: nn.Linear, group: Group) -> Tensor:
        """tokens [b, N, hidden] -> keys or values [b, H, slots, D].

        Along the sequence first: Eᵀ (x W) = (Eᵀ x) W, and W then meets `slots` rows instead of N.
        """
        self._check(group.longest)
        slots = min(group.longest, self.options.projection_size)
        used = projection[: group.longest, :slots]
        folded = used.t().to(tokens.dtype) @ tokens  # [b, slots, hidden]
        if group.valid is None:
            weight = used.sum(0)[:, None]
        else:
            weight = (group.valid.to(used.dtype) @ used)[:, :, None]  # [b, slots, 1]
        return self.heads(nn.functional.linear(folded, linear.weight) + weight * linear.bias).transpose(1, 2)

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
