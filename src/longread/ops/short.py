"""Softmax attention of short sequences in bfloat16, without gradients, on a processor.

Products of so few tokens take less time than bringing them into order, so every step is one pass over memory that a
cache holds: one gather from packed tokens to heads, scores and softmax in float32 (no score is rounded), one gather
back. torch's fused kernel is slower, its own products in bfloat16 round the scores (docs/log.md).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from longread.ops.packed import PackedBatch, bias_from
from longread.ops.rotary import turned

# Tokens of the longest sequence that is short; beyond, torch's fused kernel is as fast, and takes one step.
LONGEST = 128
# Neighbours are padded together while that adds no more query-key pairs than another round of operators costs, and
# while the scores of all of them stay in cache.
PADDED_PAIRS, PAIRS = 2048, 1 << 16
# Up to so many pairs the second product is in float32, too: in bfloat16 oneDNN makes code for each shape first.
FEW_PAIRS = 4096


class Piece(NamedTuple):
    """Sequences that are mixed together: b of them, `tokens` in all, padded to the longest, N; H heads."""

    sequences: int
    longest: int
    tokens: int
    slots: Tensor  # int64 [b * H * N]: which of the heads [T * H] of all tokens; empty slots repeat their last token
    heads: Tensor  # int64 [tokens * H]: which slot each head of its own tokens is in
    empty: Tensor | None  # float32 [b, 1, 1, N], very negative for empty slots; None: there are none


def is_short(batch: PackedBatch, dtype: torch.dtype, gradients: bool) -> bool:
    """Whether `attend` is for these sequences."""
    on_processor = batch.device.type == "cpu" and dtype == torch.bfloat16
    return on_processor and not gradients and 0 < batch.longest <= LONGEST


def planned(batch: PackedBatch, heads: int) -> list[Piece]:
    """The sequences in pieces, made once for a batch."""
    return batch.plan(("short", heads), lambda: _pieces(batch.lengths, heads))  # type: ignore[no-any-return]


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    batch: PackedBatch,
    bias: Tensor | None = None,
    angles: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """query, key, value [T, H, D] -> [T, H, D].

    bias float32 [H or 1, N, N] is added to the scores of every sequence, N at least as long as the longest of them.
    angles: cosines and sines [N, D / 2] by which queries and keys are turned.
    """
    heads, dim = query.shape[1:]
    out = torch.empty_like(query)
    begin = 0
    for piece in planned(batch, heads):
        n = piece.longest
        q, k, v = (t.flatten(0, 1).index_select(0, piece.slots).view(-1, n, dim) for t in (query, key, value))
        q, k = q.float(), k.float()
        if angles is not None:
            q, k = (turned(t, angles[0][:n], angles[1][:n]) for t in (q, k))
        scores = _scores(q, k.transpose(1, 2), None if bias is None else bias[:, :n, :n], piece)
        torch.softmax(scores, -1, out=scores)
        if piece.sequences * n**2 <= FEW_PAIRS:
            mixed = torch.bmm(scores, v.float(), out=torch.empty_like(q)).to(v.dtype)
        else:
            mixed = torch.bmm(scores.to(v.dtype), v)
        own = out[begin : begin + piece.tokens].view(-1, dim)
        torch.index_select(mixed.view(-1, dim), 0, piece.heads, out=own)
        begin += piece.tokens
    return out


def _scores(q: Tensor, keys: Tensor, bias: Tensor | None, piece: Piece) -> Tensor:
    """[b * H, N, N]; a product that is told where to write is in float32 under autocast, too."""
    n, scale = piece.longest, q.shape[2] ** -0.5
    scores = q.new_empty(q.shape[0], n, n)
    own = scores.unflatten(0, (piece.sequences, -1))
    if bias is not None and piece.empty is not None:
        torch.add(bias, piece.empty, out=own)
    elif bias is not None or piece.empty is not None:
        own.copy_(piece.empty if bias is None else bias)
    else:
        return scores.baddbmm_(q, keys, beta=0, alpha=scale)
    return scores.baddbmm_(q, keys, alpha=scale)


def _pieces(lengths: tuple[int, ...], heads: int) -> list[Piece]:
    found, begin, start, pairs, longest = [], 0, 0, 0, 0
    for place, length in enumerate(lengths):
        widest = max(longest, length)
        slots = (place + 1 - begin) * widest**2
        pairs += length**2
        if place > begin and (slots - pairs > PADDED_PAIRS or slots > PAIRS):
            found.append(_piece(lengths[begin:place], start, heads))
            start += found[-1].tokens
            begin, pairs, widest = place, length**2, length
        longest = widest
    return [*found, _piece(lengths[begin:], start, heads)]


def _piece(lengths: tuple[int, ...], start: int, heads: int) -> Piece:
    n, tokens = max(lengths), sum(lengths)
    own, place, head = torch.tensor(lengths)[:, None], torch.arange(n), torch.arange(heads)
    token = start + own.cumsum(0) - own + torch.minimum(place, own - 1)  # [b, N]
    slots = token[:, None, :] * heads + head[:, None]
    there = place < own
    numbers = torch.arange(slots.numel()).view_as(slots).transpose(1, 2)  # [b, N, H]
    empty = None if min(lengths) == n else bias_from(there, torch.float32)[:, None, None, :]
    return Piece(len(lengths), n, tokens, slots.flatten(), numbers[there].flatten(), empty)
