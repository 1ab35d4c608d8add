"""Longformer: a sliding window plus global tokens (Beltagy et al. 2020, section 3).

A token attends to the `attention_window // 2` tokens on each side of it and to every global token; a global token
attends to all, with query, key and value projections of its own (section 3.2), and all attend to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from longread.attention.base import SelfAttention
from longread.errors import UserError
from longread.ops.packed import Group, PackedBatch, bias_from, split
from longread.ops.tiled import Tile, attend

# Queries of one tile of the band. A tile of Q queries looks at Q + attention_window keys: smaller wastes less on
# masked corners, larger makes fewer calls.
BAND_QUERIES = 128
GLOBAL_TOKENS = ("first", "first_text")


@dataclass(frozen=True, kw_only=True)
class LongformerOptions:
    """attention_window counts both sides (512 = 256 to the left and 256 to the right); a tuple has one per layer.

    global_tokens: "first", or "first_text": all tokens of type 0, in a pair the first text, as in the paper's question
    answering (section 3.1). PackedBatch without token types have their first token alone.
    """

    attention_window: int | tuple[int, ...] = 512
    global_tokens: str = "first"

    def __post_init__(self) -> None:
        windows = self.attention_window
        for window in windows if isinstance(windows, tuple) else (windows,):
            if window < 2 or window % 2:
                raise ValueError(f"attention_window is {window}; it counts both sides: an even number, 2 or more")
        if self.global_tokens not in GLOBAL_TOKENS:
            raise ValueError(f"global_tokens is {self.global_tokens!r}; it must be one of {', '.join(GLOBAL_TOKENS)}")


class LongformerAttention(SelfAttention):
    Options = LongformerOptions

    def __init__(self, *args, **settings) -> None:  # type: ignore[no-untyped-def]
        super().__init__(*args, **settings)
        inner = self.num_attention_heads * self.head_dim
        hidden = self.query.in_features
        self.query_global = nn.Linear(hidden, inner)
        self.key_global = nn.Linear(hidden, inner)
        self.value_global = nn.Linear(hidden, inner)
        window = self.options.attention_window
        if isinstance(window, tuple):
            if self.layer >= len(window):
                raise ValueError(f"attention_window has {len(window)} entries; layer {self.layer} needs one of its own")
            window = window[self.layer]
        self.side = window // 2

    def mix(self, x: Tensor, rows: PackedBatch) -> Tensor:
        query, key, value = (self.heads(project(x)) for project in (self.query, self.key, self.value))
        mixed = []
        indices, outputs = [], []
        parts = (split(tokens, rows.groups) for tokens in (x, query, key, value))
        for group, own_x, *own in zip(rows.groups, *parts, strict=True):
            chosen = _Globals.of(group, rows)
            q, k, v = (group.pad(heads).transpose(1, 2) for heads in own)
            mixed.append(group.pack(self._local(q, k, v, group, chosen, rows)))
            indices.append(chosen.tokens)
            outputs.append(self._global(group.pad(own_x), group, chosen))
        return torch.cat(mixed).index_copy(0, torch.cat(indices), torch.cat(outputs).to(query.dtype)).flatten(1)

    def _local(self, q: Tensor, k: Tensor, v: Tensor, group: Group, chosen: _Globals, rows: PackedBatch) -> Tensor:
        """Every token over its window and the global tokens, by the local projections -> [b, N, H, D]."""
        length, side = group.longest, self.side
        if length <= side + 1:  # each token's window is the whole row
            return attend(q, k, v, bias=group.key_bias(q.dtype), dropout=self.dropping)
        extra_key, extra_value = (chosen.gather(heads) for heads in (k, v))
        tiles = rows.plan(("band", group.first_row, side, q.dtype), lambda: _band(group, chosen, side, q.dtype))
        extra = {"extra_key": extra_key, "extra_value": extra_value, "extra_bias": chosen.bias(q.dtype)}
        return attend(q, k, v, tiles=tiles, dropout=self.dropping, **extra)

    def _global(self, tokens: Tensor, group: Group, chosen: _Globals) -> Tensor:
        """The rows of the global tokens, from tokens [b, N, hidden] -> [their number, H, D].

        Few queries look at all keys, so the key and value projections go to the query's side: q (W x) = (Wᵀ q) x,
        and the weighted sum is taken over x before W_v. N tokens are never projected a second time.
        """
        query = self.heads(self.query_global(chosen.gather(tokens.unsqueeze(1)).squeeze(1)))  # [b, G, H, D]
        query = query * self.scale
        _, count, heads, _ = query.shape
        key_weight, value_weight = (
            project.weight.unflatten(0, (heads, self.head_dim)).to(query.dtype)
            for project in (self.key_global, self.value_global)
        )
        asked = torch.einsum("bghd,hdx->bghx", query, key_weight).flatten(1, 2)  # [b, G * H, hidden]
        # The key bias adds the same number to all of a query's scores, which softmax does not see.
        scores = (asked @ tokens.to(asked.dtype).transpose(1, 2)).to(torch.promote_types(asked.dtype, torch.float32))
        if group.valid is not None:
            scores = scores + bias_from(group.valid, scores.dtype)[:, None, :]
        shares = self.dropout(torch.softmax(scores, dim=-1).to(asked.dtype))
        seen = (shares @ tokens.to(asked.dtype)).unflatten(1, (count, heads))  # [b, G, H, hidden]
        out = torch.einsum("bghx,hdx->bghd", seen, value_weight)
        bias = self.heads(self.value_global.bias).to(out.dtype)
        if self.dropping:  # the shares no longer sum to 1
            bias = bias * shares.sum(-1).unflatten(1, (count, heads)).unsqueeze(-1)
        out = out + bias
        return out.flatten(0, 1) if chosen.valid is None else out[chosen.valid]

    def reference(self, x: Tensor, global_positions: Sequence[int] = (0,)) -> tuple[Tensor, Tensor]:
        """A [2, H, N, N]: what mixes the local values, and what mixes the global ones."""
        length = x.shape[0]
        position = torch.arange(length, device=x.device)
        is_global = torch.zeros(length, dtype=torch.bool, device=x.device)
        is_global[list(global_positions)] = True
        seen = ((position[:, None] - position).abs() <= self.side) | is_global
        q, k, v = (self.row_heads(project, x) for project in (self.query, self.key, self.value))
        scores = (q @ k.transpose(-1, -2) * self.scale).masked_fill(~seen, -torch.inf)
        local = torch.softmax(scores, dim=-1) * ~is_global[:, None]
        q, k, global_v = (
            self.row_heads(project, x) for project in (self.query_global, self.key_global, self.value_global)
        )
        over_all = torch.softmax(q @ k.transpose(-1, -2) * self.scale, dim=-1) * is_global[:, None]
        return self.row_output(local @ v + over_all @ global_v), torch.stack([local, over_all])

    def prepare_padded(self) -> None:
        if self.options.global_tokens != "first":
            raise UserError(
                f'global_tokens "{self.options.global_tokens}" has no padded form; export a model with "first"'
            )

    def padded(self, x: Tensor, real: Tensor) -> Tensor:
        """Blocks as long as one side of the window, each with its neighbours; the global token beside them."""
        side, length = self.side, x.shape[1]
        q, k, v = (self.padded_heads(project, x) for project in (self.query, self.key, self.value))
        missing = (-length) % side + side  # two blocks at least: a tracer takes a size of 1 for a constant
        blocks = nn.functional.pad(q, (0, 0, 0, missing)).unflatten(2, (-1, side)) * self.scale  # [B, H, n, side, D]
        near_k, near_v = (_neighbours(heads, 2, side, missing) for heads in (k, v))  # [B, H, n, 3 * side, D]
        local = real & (torch.arange(length, device=x.device) > 0)  # the global token is counted once
        near = _neighbours(local.to(torch.int32).unsqueeze(-1), 1, side, missing).squeeze(-1).bool()  # [B, n, 3 * side]
        place = torch.arange(3 * side, device=x.device) - side
        inside = (place - torch.arange(side, device=x.device)[:, None]).abs() <= side  # [side, 3 * side]
        bias = bias_from(near[:, None, :, None, :] & inside, x.dtype)
        scores = torch.cat([blocks @ near_k.mT + bias, blocks @ k[:, :, None, :1].mT], dim=-1)
        probabilities = torch.softmax(scores, dim=-1)
        mixed = probabilities[..., :-1] @ near_v + probabilities[..., -1:] * v[:, :, None, :1]
        mixed = mixed.flatten(2, 3)[:, :, :length]
        asked = self.padded_heads(self.query_global, x[:, :1]) * self.scale
        key, value = (self.padded_heads(project, x) for project in (self.key_global, self.value_global))
        over_all = torch.softmax(asked @ key.mT + bias_from(real, x.dtype)[:, None, None, :], dim=-1) @ value
        mixed = torch.where((torch.arange(length, device=x.device) == 0)[:, None], over_all, mixed)
        return self.output(mixed.transpose(1, 2).flatten(2))

    def coverage(self, lengths: Sequence[int]) -> dict[str, int]:
        full = sum(n for n in lengths if n <= self.side + 1)
        return {"full": full, "window+global": sum(lengths) - full}

    def flops(self, length: int) -> float:
        inside = sum(min(length, i + self.side + 1) - max(0, i - self.side) for i in range(length))
        pairs = inside + length  # the global column; its row goes through hidden_size instead of head_dim
        row = 4.0 * length * self.query.in_features * self.num_attention_heads
        return 4.0 * pairs * self.num_attention_heads * self.head_dim + row


def _neighbours(x: Tensor, dim: int, size: int, missing: int) -> Tensor:
    """[..., N, D] -> [..., blocks, 3 * size, D]: each block of `size` tokens with those before and behind it."""
    blocks = nn.functional.pad(x, (0, 0, size, size + missing)).unflatten(dim, (-1, size))
    count = blocks.shape[dim] - 2
    return torch.cat([blocks.narrow(dim, first, count) for first in (0, 1, 2)], dim=dim + 1)


@dataclass(frozen=True)
class _Globals:
    """The global tokens of a group: `index` int64 [b, G] in the row, `valid` bool [b, G] or None, `tokens` packed."""

    index: Tensor
    valid: Tensor | None
    tokens: Tensor
    is_first: bool

    @classmethod
    def of(cls, group: Group, rows: PackedBatch) -> _Globals:
        def make() -> _Globals:
            last = group.first_row + group.count
            starts = rows.offsets[group.first_row : last]
            if rows.global_positions is None:
                index = torch.zeros(group.count, 1, dtype=torch.long, device=group.device)
                return cls(index, None, torch.tensor(starts, device=group.device), True)
            positions = rows.global_positions[group.first_row : last]
            most = max(1, *map(len, positions))  # a slot, even an unused one, where no row has a global token
            index = torch.tensor([[*p, *[0] * (most - len(p))] for p in positions], device=group.device).long()
            valid = torch.tensor([[True] * len(p) + [False] * (most - len(p)) for p in positions], device=group.device)
            valid = valid.reshape(len(positions), most)
            tokens = (index + torch.tensor(starts, device=group.device)[:, None])[valid]
            return cls(index, valid, tokens, False)

        return rows.plan(("globals", group.first_row), make)  # type: ignore[no-any-return]

    def gather(self, heads: Tensor) -> Tensor:
        """[b, H, N, D] -> [b, H, G, D]."""
        if self.is_first:
            return heads[:, :, :1]
        index = self.index[:, None, :, None].expand(-1, heads.shape[1], -1, heads.shape[3])
        return heads.gather(2, index)

    def bias(self, dtype: torch.dtype) -> Tensor | None:
        return None if self.valid is None else bias_from(self.valid, dtype)[:, None, None, :]


def _band(group: Group, chosen: _Globals, side: int, dtype: torch.dtype) -> tuple[Tile, ...]:
    """Tiles that cover the window without the global tokens, which come as extra keys: each is counted once."""
    length = group.longest
    first = 1 if chosen.is_first else 0
    allowed = group.valid
    if not chosen.is_first:
        assert chosen.valid is not None
        everywhere = torch.ones(group.count, length, dtype=torch.bool, device=group.device)
        allowed = everywhere if allowed is None else allowed.clone()
        row = torch.arange(group.count, device=group.device)[:, None].expand_as(chosen.index)[chosen.valid]
        allowed[row, chosen.index[chosen.valid]] = False
    shapes: dict[tuple[int, int, int], Tensor] = {}
    tiles = []
    # A row that one inner tile's keys would cover anyway is one tile: cutting it up would save nothing.
    queries = length if length <= BAND_QUERIES + 2 * side else BAND_QUERIES
    for q0 in range(0, length, queries):
        q1 = min(length, q0 + queries)
        k0, k1 = max(first, q0 - side), min(length, q1 + side)
        bias = None
        if q1 - 1 - side > k0 or q0 + side < k1 - 1:  # some pair of the tile lies outside the window
            shape = (q1 - q0, k1 - k0, q0 - k0)
            if shape not in shapes:
                query = torch.arange(q0, q1, device=group.device)[:, None]
                key = torch.arange(k0, k1, device=group.device)
                shapes[shape] = bias_from((query - key).abs() <= side, dtype)[None, None]
            bias = shapes[shape]
        if allowed is not None:
            tokens = bias_from(allowed[:, k0:k1], dtype)[:, None, None, :]
            bias = tokens if bias is None else bias + tokens
        tiles.append(Tile(q0, q1, k0, k1, bias))
    return tuple(tiles)
