"""Linformer: keys and values projected along the sequence to a fixed length (Wang et al. 2020, section 4).

softmax(Q (E K)ᵀ) (F V), where E and F are shared by the heads ("headwise sharing" in the paper). For a sequence of
N tokens the projections are cut to its first N positions, and the projected length to min(N, projection_size).
Of positions that the paper does not have, rotary ones turn the queries, and the keys before they are projected; a
relative bias is projected as the keys are (ops/projected_offsets.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from longread.attention.base import Options, SelfAttention, setting
from longread.checks import Count, Positive
from longread.ops.linear import linear
from longread.ops.packed import PackedBatch, bias_from, join, split, to_device
from longread.ops.projected import ProjectSequences
from longread.ops.projected_offsets import attend_projected, projected_bias
from longread.ops.tiled import attend


@dataclass(frozen=True, kw_only=True)
class LinformerOptions(Options):
    """projection_init: how the projections begin from scratch, "normal" (random) or "fold" (position n is added to

    place n mod projection_size, so that attention begins as dense for rows of up to projection_size tokens).
    """

    projection_size: Count = setting(128, "Projected length: as many keys and values as a text is projected to.")
    projection_init: Literal["normal", "fold"] = setting(
        "normal",
        'How projections begin from scratch: at random, or ("fold") by adding tokens up, which learns faster.',
        from_scratch=True,
    )
    projection_rate: Positive = setting(1.0, "Factor of the learning rate for the projections alone.")


# What the tokens behind the first projection_size give to the projected keys and values of a converted model: the c-th
# that comes to a place this much divided by c. The first has weight 1 at any length, so that no weights make the place
# a mean; with ones the sums drown the first tokens. Measured on film reviews of 64 to 512 tokens against
# all-MiniLM-L6-v2: of 0, .05, .1, .2, .5 and 1, constant, shared out or falling with c, this came closest to the dense
# sentence vectors on most lengths.
FOLD = 0.1
# How much faster than the rest projections learn in distillation, on sequences of up to so many tokens. A projected
# key is a sum over tokens, so what one step does to it grows with them: ten times the rate was right for rows of up to
# 50 tokens and ruined a projected length of 256 for rows of 300, where a tenth and the whole rate were alike in
# fine-tuning (experiments/settings.py). The square is a guess.
DISTILLATION_FACTOR, TOKENS_FOR_THAT_FACTOR = 10.0, 50


def fold(max_length: int, size: int, later: Callable[[Tensor], Tensor] = torch.ones_like) -> Tensor:
    """A projection [max_length, size] with which position n goes to place n mod size.

    The first `size` positions have weight 1: a sequence that is no longer keeps its keys and values as they are.
    `later` has the weight of those behind: of the c-th that comes to a place after the first (c a float tensor from 1
    on).
    """
    position = torch.arange(max_length)
    turn = (position // size).to(torch.get_default_dtype())
    projection = torch.zeros(max_length, size)
    projection[position, position % size] = torch.where(turn == 0, 1.0, later(turn.clamp(min=1)))
    return projection


def extend_projection(table: Tensor, max_length: int) -> Tensor:
    """[L, projected] -> [max_length, projected]: position n as n mod L, behind the L-th with less weight."""
    position = torch.arange(max_length, device=table.device)
    turn = position // table.shape[0]
    weight = torch.where(turn == 0, 1.0, FOLD / turn.clamp(min=1)).to(table.dtype)
    return table[position % table.shape[0]] * weight[:, None]


class LinformerAttention(SelfAttention):
    Options = LinformerOptions
    title = "Linformer"
    color = "#b8578f"
    supports_rotary = True
    supports_relative_bias = True
    int8_layers = ("query", "output")  # the others meet projected sequences
    new_parameters = ("key_projection", "value_projection")

    def __init__(self, *args, **settings) -> None:  # type: ignore[no-untyped-def]
        super().__init__(*args, **settings)
        size = self.options.projection_size
        # [max_length, size]: how much each position gives to each projected key or value.
        self.key_projection = nn.Parameter(torch.empty(self.max_length, size))
        self.value_projection = nn.Parameter(torch.empty(self.max_length, size))
        for projection in (self.key_projection, self.value_projection):
            nn.init.normal_(projection, std=size**-0.5)
            if self.options.projection_init == "fold":
                with torch.no_grad():
                    projection.copy_(fold(self.max_length, size))

    @classmethod
    def published_sizes(cls, head_dim: int) -> dict[str, Any]:
        return {"projection_size": 256}

    def from_dense(self, dense: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Sequences of up to projection_size tokens begin as dense; the tokens behind are added with less weight."""
        folded = fold(self.max_length, self.options.projection_size, lambda turn: FOLD / turn)
        return dict(dense) | dict.fromkeys(self.new_parameters, folded)

    def from_shorter(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        extended = {name: extend_projection(state[name], self.max_length) for name in self.new_parameters}
        return dict(state) | extended

    def learning_rate_factors(self) -> dict[str, float]:
        return dict.fromkeys(self.new_parameters, self.options.projection_rate)

    def distillation_factors(self, mean_length: float) -> dict[str, float]:
        factor = DISTILLATION_FACTOR * min(1.0, TOKENS_FOR_THAT_FACTOR / mean_length) ** 2
        return dict.fromkeys(self.new_parameters, factor)

    def plan(self, batch: PackedBatch, dtype: torch.dtype, gradients: bool) -> Tensor | None:
        """Where the bias by offset changes, on the device."""
        super().plan(batch, dtype, gradients)
        _ = batch.seqlens
        return None if self.relative is None else to_device(self.relative.changes, batch.device)

    def mix(self, x: Tensor, batch: PackedBatch) -> Tensor:
        self._check(batch.longest)
        query = self.heads(self.query(x))
        query = query if self.rotary_base is None else self.packed_turned(query, batch)
        keys, values = (t.to(query.dtype) for t in self._project(x, batch))
        mixed, relative, changes = [], self.relative, self.planned(batch, query.dtype)
        counts = [group.count for group in batch.groups]
        parts = split(query, batch.groups), keys.split(counts), values.split(counts)
        for group, own, k, v in zip(batch.groups, *parts, strict=True):
            q = group.pad(own).transpose(1, 2)
            size = min(group.longest, self.options.projection_size)
            k, v = (t[:, :size].transpose(1, 2) for t in (k, v))
            bias = group.key_bias(q.dtype) if min(group.lengths) < size else None
            bias = None if bias is None else bias[..., :size]
            if relative is None:
                made = attend(q, k, v, bias=bias, dropout=self.dropping)
            else:
                table = self.key_projection[: group.longest, :size]
                lengths = batch.seqlens[group.first : group.first + group.count]
                made = attend_projected(q, k, v, relative, changes, table, lengths, bias=bias, dropout=self.dropping)
            mixed.append(group.pack(made))
        return join(mixed).flatten(1)

    def _project(self, x: Tensor, batch: PackedBatch) -> list[Tensor]:
        """x [T, hidden] -> projected keys and values, [B, projected length, H, D] each.

        Along the sequence first: Eᵀ (x W) = (Eᵀ x) W, and W then meets `projection_size` positions instead of N. Keys
        that are turned by their positions have to be made before.
        """
        if self.rotary_base is None:
            parts, constants = self._along(x, batch, self.key_projection, self.value_projection)
            return [
                self._through(linear, parts[:, place], constants[:, place])
                for place, linear in enumerate((self.key, self.value))
            ]
        turned = self.packed_turned(self.heads(self.key(x)), batch)
        keys, _ = self._along(turned.flatten(1), batch, self.key_projection)
        values, constants = self._along(x, batch, self.value_projection)
        return [self.heads(keys[:, 0]), self._through(self.value, values[:, 0], constants[:, 0])]

    def _along(self, x: Tensor, batch: PackedBatch, *projections: Tensor) -> tuple[Tensor, Tensor]:
        return ProjectSequences.apply(x, batch.lengths, batch.seqlens, *projections)  # type: ignore[no-any-return, no-untyped-call]

    def _through(self, layer: nn.Linear, part: Tensor, constant: Tensor) -> Tensor:
        return self.heads(_plus_bias(linear(part, layer.weight), constant, layer.bias))

    def _check(self, length: int) -> None:
        if length > self.max_length:
            raise ValueError(
                f"a row has {length} tokens; this Linformer's projection has {self.max_length} positions (max_length)"
            )

    def reference(self, x: Tensor) -> tuple[Tensor, Tensor]:
        length = x.shape[0]
        self._check(length)
        size = min(length, self.options.projection_size)
        q, k, v = self.row_heads_of(x)
        to_keys, to_values = self.key_projection[:length, :size], self.value_projection[:length, :size]
        scores = q @ (to_keys.t() @ k).transpose(-1, -2) * self.scale
        if isinstance(bias := self.row_bias(length), Tensor):
            scores = scores + bias @ to_keys
        probabilities = torch.softmax(scores, dim=-1)  # [H, N, size]
        matrix = probabilities @ to_values.t()
        return self.row_output(matrix @ v), matrix

    def padded(self, x: Tensor, real: Tensor) -> Tensor:
        length, size = x.shape[1], self.options.projection_size
        tokens = real.sum(1, keepdim=True)
        own = x * real.unsqueeze(-1)
        q = self.turned(self.padded_heads(self.query, x))
        k, v = (
            self._through(
                linear,
                torch.einsum("bnh,np->bph", own, table[:length]),
                torch.einsum("bn,np->bp", real.to(x.dtype), table[:length]),
            ).transpose(1, 2)
            for linear, table in ((self.key, self.key_projection), (self.value, self.value_projection))
        )
        if self.rotary_base is not None:
            turned = self.turned(self.padded_heads(self.key, x)) * real[:, None, :, None]
            k = torch.einsum("bhnd,np->bhpd", turned, self.key_projection[:length])
        bias = bias_from(torch.arange(size, device=x.device) < tokens, x.dtype)[:, None, None, :]
        if self.relative is not None:  # the exporter cannot take apart the fused operator with a bias for each head
            own = projected_bias(self.relative, self.key_projection[:length], tokens.squeeze(1))
            mixed = torch.softmax(q @ k.mT * self.scale + bias + own, dim=-1) @ v
        else:
            mixed = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.output(mixed.transpose(1, 2).flatten(2))

    def coverage(self, lengths: Sequence[int]) -> dict[str, int]:
        return {"projected": sum(lengths)}

    def flops(self, length: int) -> float:
        size = min(length, self.options.projection_size)
        inner, hidden = self.num_attention_heads * self.head_dim, self.query.in_features
        # Both projections along the sequence, W_k and W_v of what they leave in place of all tokens, and the attention.
        saved = 4.0 * (length - size) * hidden * inner
        along = 4.0 * length * size * hidden
        if self.rotary_base is not None:  # all keys are made
            saved, along = saved / 2, along / 2 + 2.0 * length * size * inner
        steps = 0 if self.relative is None else len(self.relative.starts)
        bias = 2.0 * length * size * steps * self.num_attention_heads
        return along + bias + 4.0 * length * size * inner - saved


def _plus_bias(projected: Tensor, constant: Tensor, bias: Tensor | None) -> Tensor:
    """projected [..., places, inner] with the bias as often as `constant` [..., places] says a constant comes there."""
    return projected if bias is None else projected + constant.unsqueeze(-1) * bias
