"""Softmax attention over packed sequences by torch's FlexAttention: the pattern is a function of two places.

The kernel goes over the blocks of BLOCK x BLOCK places where anything of the pattern lies, listed here from lengths
alone, and asks the function inside them. It is used on CUDA, in half precision, without dropout. Never run by this
project, which has had no GPU: the tests hold function and lists against the references by torch's own plain form of it,
and `make gpu-check` what the kernel answers.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from longread.ops import varlen
from longread.ops.packed import PackedBatch, to_device

log = logging.getLogger("longread")

BLOCK = 128
MOST_FORMS = 64  # compiled ones, one for each kind of pattern, type and layout; torch's own limit is 8


@dataclass(frozen=True)
class Pattern:
    """blocks: torch's BlockMask, with the function in it; score: what becomes of a score, None: it stays."""

    blocks: Any
    score: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor] | None = None


def has_kernel(device: torch.device, dtype: torch.dtype, head_dim: int, dropout: float) -> bool:
    """Whether the kernel takes queries like these, and answers right here."""
    return varlen.is_there(device, dtype, head_dim, dropout) and _is_right(device, dtype)


@cache
def _is_right(device: torch.device, dtype: torch.dtype) -> bool:
    """Tried once on something small: what cannot be compiled, or is wrong, is said and not used."""
    try:
        if importlib.util.find_spec("triton") is None:
            raise ImportError("triton is not installed")
        batch = PackedBatch((300, 50), device)
        pattern = window_and_global(batch, 20, None)
        heads = torch.randn(3, batch.num_tokens, 2, 32, generator=torch.Generator().manual_seed(0)).to(device, dtype)
        answers = []
        for kernel in (_compiled(), _plain()):
            given = heads.clone().requires_grad_()
            query, key, value = given.unbind()
            out = _run(kernel, query, key, value, pattern)
            answers.append((out.detach(), *torch.autograd.grad(out.square().sum(), given)))
        torch.testing.assert_close(*answers, rtol=0.05, atol=0.05)
    except Exception as error:
        log.warning("FlexAttention does not work here, other kernels compute: %s", str(error).partition("\n")[0])
        return False
    return True


def attend(query: Tensor, key: Tensor, value: Tensor, pattern: Pattern, batch: PackedBatch) -> Tensor:
    """query, key, value [T, H, D] -> [T, H, D]."""
    batch.kernels.add("flex_attention")
    if query.device.type != "cuda":
        return _run(_plain(), query, key, value, pattern)
    with torch._dynamo.config.patch(recompile_limit=MOST_FORMS):
        return _run(_compiled(), query, key, value, pattern)


def _run(kernel: Callable[..., Any], query: Tensor, key: Tensor, value: Tensor, pattern: Pattern) -> Tensor:
    q, k, v = (heads.transpose(0, 1).unsqueeze(0) for heads in (query, key, value))
    out: Tensor = kernel(q, k, v, score_mod=pattern.score, block_mask=pattern.blocks)
    return out.squeeze(0).transpose(0, 1)


def _plain() -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    return flex_attention


@cache
def _compiled() -> Callable[..., Any]:
    # For any number of tokens; what cannot be compiled is an error and never the plain form, which makes T x T scores.
    return torch.compile(_plain(), dynamic=True, fullgraph=True)


def window_and_global(batch: PackedBatch, side: int, positions: Sequence[Sequence[int]] | None) -> Pattern:
    """Of a token's own sequence those `side` to the left and right, and those at `positions` (None: the first)."""
    chosen = [(0,)] * len(batch.lengths) if positions is None else positions
    places = [start + place for start, own in zip(batch.offsets, chosen, strict=False) for place in own]
    flags = torch.zeros(batch.num_tokens, dtype=torch.bool)
    flags[places] = True
    is_global, sequence = to_device(flags, batch.device), batch.sequence_of_token
    reach = to_device(torch.tensor(side), batch.device)  # as a tensor: windows of layers share one compiled form

    def seen(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return (sequence[q] == sequence[k]) & (((q - k).abs() <= reach) | is_global[k])

    count = -(-batch.num_tokens // BLOCK)
    block = torch.arange(count)
    touched = torch.zeros(count, count, dtype=torch.bool)
    for start, end, own in zip(batch.offsets, batch.offsets[1:], chosen, strict=False):
        rows = block[start // BLOCK : (end - 1) // BLOCK + 1]
        first = (rows * BLOCK).clamp(min=start) - side
        last = (rows * BLOCK + BLOCK - 1).clamp(max=end - 1) + side
        low, high = first.clamp(min=start) // BLOCK, last.clamp(max=end - 1) // BLOCK
        touched[rows] |= (block >= low[:, None]) & (block <= high[:, None])
        for column in {(start + place) // BLOCK for place in own}:
            touched[rows, column] = True
    return Pattern(_listed(touched[None], batch, seen))


def by_blocks(batch: PackedBatch, size: int, times_of: Callable[[int], Tensor]) -> Pattern:
    """Each sequence in blocks of `size` tokens; times_of: of a length, how often each block sees each, [H, n, n]."""
    tables = {length: times_of(length) for length in set(batch.lengths)}
    heads = next(iter(tables.values())).shape[0]
    counts = [tables[length].shape[1] for length in batch.lengths]
    times = torch.zeros(heads, sum(counts), max(counts))
    count = -(-batch.num_tokens // BLOCK)
    touched = torch.zeros(heads, count, count, dtype=torch.bool)
    rows, row = [], 0
    for start, length, own in zip(batch.offsets, batch.lengths, counts, strict=False):
        table = tables[length]
        times[:, row : row + own, :own] = table
        rows.append(row + torch.arange(length) // size)
        begin = start + size * torch.arange(own)
        first, last = begin // BLOCK, ((begin + size).clamp(max=start + length) - 1) // BLOCK
        block = torch.arange(count)
        over = ((block >= first[:, None]) & (block <= last[:, None])).float()  # [n, count]: which blocks lie over which
        touched |= over.t() @ (table > 0).float() @ over > 0
        row += own
    often = to_device(times, batch.device)
    sequence, column = batch.sequence_of_token, to_device(batch_places(batch) // size, batch.device)
    own_row = to_device(torch.cat(rows), batch.device)

    def seen(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return (sequence[q] == sequence[k]) & (often[h, own_row[q], column[k]] > 0)

    def weighed(score: Tensor, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return score + often[h, own_row[q], column[k]].clamp(min=1).log()

    return Pattern(_listed(touched, batch, seen), weighed if times.max() > 1 else None)


def batch_places(batch: PackedBatch) -> Tensor:
    """int64 [T], on the processor: the place of each token in its sequence."""
    return torch.cat([torch.arange(length) for length in batch.lengths])


def _listed(touched: Tensor, batch: PackedBatch, seen: Callable[..., Tensor]) -> Any:
    """bool [H or 1, blocks, blocks] -> a BlockMask that lists them."""
    from torch.nn.attention.flex_attention import BlockMask

    number = touched.sum(-1, dtype=torch.int32)[None]
    order = touched.to(torch.int8).argsort(stable=True, dim=-1, descending=True).to(torch.int32)[None]
    number, order = (to_device(tensor, batch.device) for tensor in (number, order))
    length = batch.num_tokens
    return BlockMask.from_kv_blocks(number, order, BLOCK_SIZE=BLOCK, mask_mod=seen, seq_lengths=(length, length))
