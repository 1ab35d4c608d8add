"""Longformer: a sliding window plus global tokens (Beltagy et al. 2020, section 3).

A token attends to the `attention_window // 2` tokens on each side of it and to every global token; a global token
attends to all, with query, key and value projections of its own (section 3.2), and all attend to it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import torch
from torch import Tensor

from longread.attention.base import Options, SelfAttention, setting
from longread.attention.global_tokens import Part, Plan, few_at_a_time, part_of
from longread.checks import EvenCount
from longread.errors import UserError
from longread.ops import flex, varlen
from longread.ops.linear import Linear
from longread.ops.offsets import ExtraKeys, attend_by_offset
from longread.ops.packed import PackedBatch, bias_from, join, split, to_device
from longread.ops.relative_bias import along
from longread.ops.rotary import cosines_and_sines
from longread.ops.tiled import attend
from longread.ops.windows import tokens_missing, windows

UNKNOWN_FIRST_TEXT = (
    'global_tokens="first_text" needs to know where the first text of a pair ends: pass token_type_ids, 0 there and 1 '
    'behind it, or global_mask (for a single text: its first token), or set global_tokens="first"'
)


@dataclass(frozen=True, kw_only=True)
class LongformerOptions(Options):
    """attention_window counts both sides (512 = 256 to the left and 256 to the right); a tuple has one per layer.

    global_tokens: "first", or "first_text": of a pair all of the first text, as in the paper's question answering
    (section 3.1); of a text without a partner its first token.
    """

    attention_window: EvenCount | tuple[EvenCount, ...] = setting(512, "Tokens of the window, both sides together.")
    global_tokens: Literal["first", "first_text"] = setting(
        "first", "Tokens that attend to all and are attended to by all: the first, or in a pair all of the first text."
    )


class LongformerAttention(SelfAttention):
    Options = LongformerOptions
    title = "Longformer"
    color = "#0072b2"
    supports_rotary = True
    supports_relative_bias = True
    has_global_tokens = True

    def __init__(self, *args, **settings) -> None:  # type: ignore[no-untyped-def]
        super().__init__(*args, **settings)
        inner = self.num_attention_heads * self.head_dim
        hidden = self.query.in_features
        bias = self.query.bias is not None
        self.query_global = Linear(hidden, inner, bias=bias)
        self.key_global = Linear(hidden, inner, bias=bias)
        self.value_global = Linear(hidden, inner, bias=bias)
        window = self.options.attention_window
        if isinstance(window, tuple):
            if self.layer >= len(window):
                raise ValueError(f"attention_window has {len(window)} entries; layer {self.layer} needs one of its own")
            window = window[self.layer]
        self.side = window // 2

    @classmethod
    def published_sizes(cls, head_dim: int) -> dict[str, Any]:
        return {"attention_window": 512}

    def from_dense(self, dense: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The second projections begin as copies of the first, as in the published conversion (section 5)."""
        return {name: dense[name.replace("_global.", ".")] for name in self.state_dict()}

    def global_tokens_of(self, token_types: Tensor, mask: Tensor) -> Tensor | None:
        if self.options.global_tokens == "first":
            return None
        chosen = (token_types == 0) & mask
        if ((chosen == mask).all(1) & (mask.sum(1) > 1)).any():  # no type tells two texts apart
            raise ValueError(UNKNOWN_FIRST_TEXT)
        return chosen

    def positions(self, batch: PackedBatch) -> Sequence[Sequence[int]] | None:
        """The global tokens of each sequence; None: the first of each. ValueError where nobody knows them."""
        if batch.global_positions is not None or self.options.global_tokens == "first":
            return batch.global_positions
        if batch.first_text_lengths is None:
            raise ValueError(UNKNOWN_FIRST_TEXT)
        if max(batch.first_text_lengths, default=0) <= 1:
            return None
        return tuple(range(max(1, length)) for length in batch.first_text_lengths)

    @property
    def plan_key(self) -> Hashable:
        return type(self), self.side, self.options.global_tokens, self.rotary_base, self.dropping > 0

    def plan(self, batch: PackedBatch, dtype: torch.dtype, gradients: bool) -> Plan:
        super().plan(batch, dtype, gradients)
        positions = self.positions(batch)
        packed = not self.has_relative and flex.has_kernel(batch.device, dtype, self.head_dim, self.dropping)
        pattern = None
        if packed and batch.longest > self.side + 1:
            pattern = flex.window_and_global(batch, self.side, positions)
        parts, tokens = [], []
        for group in batch.groups:
            group.plan(torch.promote_types(dtype, torch.float32))  # the scores of global tokens
            own = None if positions is None else positions[group.first : group.first + group.count]
            part, places = part_of(group, own, self.side, dtype, tiled=not packed)
            if self.rotary_base is not None:
                table = cosines_and_sines(torch.arange(group.longest), self.head_dim, self.rotary_base)
                cosines, sines = (to_device(angles.unsqueeze(1), batch.device) for angles in table)
                part = dataclasses.replace(part, angles=(cosines, sines))
            starts = batch.offsets[group.first : group.first + group.count]
            tokens += [start + place for start, some in zip(starts, places, strict=True) for place in some]
            parts.append(part)
        return Plan(tuple(parts), to_device(torch.tensor(tokens, dtype=torch.long), batch.device), packed, pattern)

    def mix(self, x: Tensor, batch: PackedBatch) -> Tensor:
        query, key, value = self.packed_heads(x, batch)
        plan: Plan = self.planned(batch, query.dtype)
        vector = self.relative_vector()
        mixed = []
        if not plan.packed:
            for part, *own in zip(plan.parts, *(split(t, batch.groups) for t in (query, key, value)), strict=True):
                q, k, v = (part.group.pad(heads).transpose(1, 2) for heads in own)
                mixed.append(part.group.pack(self._local(q, k, v, part, vector)))
        elif plan.pattern is not None:
            mixed.append(flex.attend(query, key, value, plan.pattern, batch))
        else:  # each token's window is the whole sequence
            mixed.append(varlen.attend_packed(query, key, value, batch))
        local, over_all = join(mixed), self._global(x, plan, vector).to(query.dtype)
        place = local.index_copy if torch.is_grad_enabled() else local.index_copy_
        return place(0, plan.tokens, over_all).flatten(1)

    def _local(self, q: Tensor, k: Tensor, v: Tensor, part: Part, vector: Tensor | None) -> Tensor:
        """Every token over its window and the global tokens, by the local projections -> [b, N, H, D]."""
        if vector is not None:
            bias = part.group.key_bias(q.dtype) if part.tiles is None else None
            extra = None
            if part.tiles is not None:
                extra = ExtraKeys(part.gather(k), part.gather(v), part.positions(q.device), part.bias)
            options: dict[str, Any] = {"tiles": part.tiles, "bias": bias, "extra": extra, "dropout": self.dropping}
            return attend_by_offset(q, k, v, vector, **options)
        if part.tiles is None:  # each token's window is the whole sequence
            return attend(q, k, v, bias=part.group.key_bias(q.dtype), dropout=self.dropping)
        beside = {"extra_key": part.gather(k), "extra_value": part.gather(v), "extra_bias": part.bias}
        return attend(q, k, v, tiles=part.tiles, dropout=self.dropping, **beside)

    def _global(self, x: Tensor, plan: Plan, vector: Tensor | None) -> Tensor:
        """The rows of the global tokens, from x [T, hidden] -> [their number, H, D], in the order of the plan.

        Few queries look at all keys, so what projects these goes around them: q (W x) = (Wᵀ q) x, and the value
        projection is applied to the weighted sum. N tokens are not projected a second time, for their values never and
        for their keys only where rotary positions turn each of them. The key bias adds the same number to all of a
        query's scores, which softmax does not see.
        """
        query = self.heads(self.query_global(x.index_select(0, plan.tokens))) * self.scale  # [their number, H, D]
        own_x = iter(split(x, [part.group for part in plan.parts]))
        own_query = iter(query.split([part.num_globals for part in plan.parts]))
        made = [
            self._global_of(parts, list(islice(own_x, len(parts))), list(islice(own_query, len(parts))), vector)
            for parts in few_at_a_time(plan.parts)
        ]
        return join(made)

    def _global_of(
        self, parts: Sequence[Part], xs: Sequence[Tensor], queries: Sequence[Tensor], vector: Tensor | None
    ) -> Tensor:
        """Of some parts, their tokens and their global queries -> [number of global tokens, H, D]."""
        turned, counts = self.rotary_base is not None, [part.num_globals for part in parts]
        query = torch.cat(list(queries))
        asked = query if turned else torch.einsum("ghd,hdx->ghx", query, self._by_head(self.key_global, query))
        seen, sums = [], []
        for part, x, own in zip(parts, xs, asked.split(counts), strict=True):
            tokens = part.group.pad(x)  # [b, N, hidden]
            if turned:
                scores = part.turned_scores(part.spread(own), self.heads(self.key_global(tokens)))
            else:
                scores = part.spread(own).flatten(1, 2) @ tokens.to(own.dtype).transpose(1, 2)  # [b, G * H, N]
            probabilities = self._global_probabilities(scores, part, vector).to(own.dtype)
            seen.append(part.collect(probabilities @ tokens.to(own.dtype)))
            if self.dropping:  # probabilities no longer sum to 1
                sums.append(part.collect(probabilities.sum(-1, keepdim=True)))
        out = torch.einsum("ghx,hdx->ghd", torch.cat(seen), self._by_head(self.value_global, query))
        if self.value_global.bias is None:
            return out
        bias = self.heads(self.value_global.bias).to(out.dtype)
        return out + (bias * torch.cat(sums) if sums else bias)

    def _by_head(self, layer: Linear, like: Tensor) -> Tensor:
        """Its weight [H, D, hidden]."""
        return layer.weight.unflatten(0, (self.num_attention_heads, self.head_dim)).to(like.dtype)

    def _global_probabilities(self, scores: Tensor, part: Part, vector: Tensor | None) -> Tensor:
        """Of scores [b, G * H, N], with the bias by offset and some dropped."""
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        if vector is not None:
            offsets = torch.arange(scores.shape[2], device=scores.device) - part.positions(scores.device).unsqueeze(2)
            by_offset = along(vector, offsets).permute(1, 2, 0, 3)  # [b or 1, G, H, N]
            scores = scores + by_offset.flatten(1, 2).to(scores.dtype)
        empty = part.group.key_bias(scores.dtype)
        if empty is not None:
            scores = scores + empty.squeeze(1)
        return self.dropout(torch.softmax(scores, dim=-1))

    def reference(self, x: Tensor, global_positions: Sequence[int] = (0,)) -> tuple[Tensor, Tensor]:
        """A [2, H, N, N]: what mixes the local values, and what mixes the global ones."""
        length = x.shape[0]
        position = torch.arange(length, device=x.device)
        is_global = torch.zeros(length, dtype=torch.bool, device=x.device)
        is_global[list(global_positions)] = True
        seen = ((position[:, None] - position).abs() <= self.side) | is_global
        q, k, v = self.row_heads_of(x)
        offsets = self.row_bias(length)
        scores = (q @ k.transpose(-1, -2) * self.scale + offsets).masked_fill(~seen, -torch.inf)
        local = torch.softmax(scores, dim=-1) * ~is_global[:, None]
        q, k, global_v = (
            self.row_heads(project, x) for project in (self.query_global, self.key_global, self.value_global)
        )
        q, k = self.turned(q), self.turned(k)
        over_all = torch.softmax(q @ k.transpose(-1, -2) * self.scale + offsets, dim=-1) * is_global[:, None]
        return self.row_output(local @ v + over_all @ global_v), torch.stack([local, over_all])

    def prepare_padded(self) -> None:
        if self.options.global_tokens != "first":
            raise UserError(
                f'global_tokens "{self.options.global_tokens}" has no padded form; export a model with "first"'
            )

    def padded(self, x: Tensor, real: Tensor) -> Tensor:
        """Blocks as long as one side of the window, each with its neighbours; the global token beside them."""
        side, length = self.side, x.shape[1]
        q, k, v = self.padded_heads_of(x)
        local = real & (torch.arange(length, device=x.device) > 0)  # the global token is counted once
        vector = self.relative_vector()
        blocks, near_k, near_v, bias = windows(q * self.scale, k, v, local, side, vector)
        to_first: Tensor | float = 0.0  # of every query's score for the global token, and below of its for every key
        to_all: Tensor | float = 0.0
        if vector is not None:
            places = torch.arange(length + tokens_missing(length, side), device=x.device)
            to_first = along(vector, -places).unflatten(1, (-1, side)).unsqueeze(-1)
            to_all = along(vector, places[:length]).unsqueeze(1)
        scores = torch.cat([blocks @ near_k.mT + bias, blocks @ k[:, :, None, :1].mT + to_first], dim=-1)
        probabilities = torch.softmax(scores, dim=-1)
        mixed = probabilities[..., :-1] @ near_v + probabilities[..., -1:] * v[:, :, None, :1]
        mixed = mixed.flatten(2, 3)[:, :, :length]
        asked = self.padded_heads(self.query_global, x[:, :1]) * self.scale
        key, value = (self.padded_heads(project, x) for project in (self.key_global, self.value_global))
        key = self.turned(key)  # the query's own position is 0
        over_all = torch.softmax(asked @ key.mT + to_all + bias_from(real, x.dtype)[:, None, None, :], dim=-1) @ value
        mixed = torch.where((torch.arange(length, device=x.device) == 0)[:, None], over_all, mixed)
        return self.output(mixed.transpose(1, 2).flatten(2))

    def coverage(self, lengths: Sequence[int], global_tokens: Sequence[int] | None = None) -> dict[str, int]:
        """global_tokens: how many each sequence has, where they were chosen; its first alone is not counted apart."""
        found = {"full": 0, "window+global": 0, "global": 0}
        for length, chosen in zip(lengths, global_tokens or [0] * len(lengths), strict=True):
            if length <= self.side + 1:
                found["full"] += length
            else:
                found["global"] += chosen
                found["window+global"] += length - chosen
        return found

    def covered(self, batch: PackedBatch) -> dict[str, int]:
        positions = self.positions(batch)
        return self.coverage(batch.lengths, None if positions is None else [len(own) for own in positions])

    def reference_in(self, x: Tensor, batch: PackedBatch) -> tuple[Tensor, Tensor]:
        positions = self.positions(batch)
        return self.reference(x) if positions is None else self.reference(x, positions[0])

    def flops(self, length: int, global_tokens: int = 1) -> float:
        inside = sum(min(length, i + self.side + 1) - max(0, i - self.side) for i in range(length))
        pairs = inside + global_tokens * length  # their columns; their rows go through hidden_size instead of head_dim
        rows = 4.0 * global_tokens * length * self.query.in_features * self.num_attention_heads
        return 4.0 * pairs * self.num_attention_heads * self.head_dim + rows
