"""Attention by blocks over a padded batch, in operators that an exported graph knows (block_pattern.py has the packed).

Shapes: B sequences of N tokens, n blocks of `size` tokens, H heads, D = head_dim.
"""

from __future__ import annotations

import torch
from torch import Tensor

from longread.ops.packed import bias_from


def attend_padded_blocks(q: Tensor, k: Tensor, v: Tensor, real: Tensor, size: int, random_blocks: Tensor) -> Tensor:
    """Scaled q, and k and v [B, H, N, D] -> [B, H, N, D]; right for sequences that are too long for full attention.

    real bool [B, N]: tokens before padding. random_blocks int64 [most + 1, H, most, r]: for every number of blocks,
    those that each block sees by chance.
    """
    length = q.shape[2]
    missing = (-length) % size + size  # two blocks at least: a tracer takes a size of 1 for a constant
    pad = torch.nn.functional.pad
    q, k, v = (pad(t, (0, 0, 0, missing)).unflatten(2, (-1, size)) for t in (q, k, v))  # [B, H, n, size, D]
    there = pad(real.to(torch.int32), (0, missing)).unflatten(1, (-1, size))  # [B, n, size]
    last = ((real.sum(1) + size - 1) // size).clamp(min=1) - 1  # [B]
    mixed = _attend_seen(q, k, v, there, last, random_blocks[last + 1][:, :, : q.shape[2]])
    for chosen in (0 * last, last):  # the first and the last block see all
        mixed = _attend_all(q, k, v, there, chosen, mixed)
    return mixed.flatten(2, 3)[:, :, :length]


def _attend_seen(q: Tensor, k: Tensor, v: Tensor, there: Tensor, last: Tensor, drawn: Tensor) -> Tensor:
    """Each block over its neighbours, the first and last block, and those `drawn` [B, H, n, r]; -> as q."""
    count, heads, blocks, size, dim = q.shape
    seen, wanted = _seen(last, drawn)
    sequence = torch.arange(count, device=q.device)[:, None, None, None]
    head = torch.arange(heads, device=q.device)[:, None, None]
    place = ((sequence * heads + head) * blocks + seen).flatten()
    shape = (count, heads, blocks, seen.shape[-1] * size, dim)
    near_k, near_v = (t.flatten(0, 2).flatten(1).index_select(0, place).reshape(shape) for t in (k, v))
    near = there.flatten(0, 1).index_select(0, (sequence * blocks + seen).flatten())
    near = near.reshape(count, heads, blocks, seen.shape[-1], size).bool() & wanted[:, None, :, :, None]
    scores = q @ near_k.mT + bias_from(near.flatten(3), q.dtype).unsqueeze(3)
    return torch.softmax(scores, dim=-1) @ near_v


def _seen(last: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
    """The blocks that each one sees, int64 [B, H, n, 5 + r], and which of them count, bool [B, n, 5 + r]."""
    count, heads, blocks, num_random = drawn.shape
    i = torch.arange(blocks, device=drawn.device)
    fixed = torch.stack([0 * i, i - 1, i, i + 1], dim=-1).clamp(min=0)  # [n, 4]
    seen = torch.cat([fixed.expand(count, -1, -1), last[:, None, None].expand(-1, blocks, 1)], dim=-1)
    seen = torch.cat([seen[:, None].expand(-1, heads, -1, -1), drawn], dim=-1)
    seen = torch.minimum(seen, last[:, None, None, None])  # beyond a sequence's end anything, that is there
    # A neighbour that is the first or the last block is counted already.
    front = torch.stack([i >= 0, i != 1, i >= 0], dim=-1).expand(count, -1, -1)
    right = (i != last[:, None] - 1).unsqueeze(-1)
    rest = torch.ones(count, blocks, 1 + num_random, dtype=torch.bool, device=drawn.device)
    return seen, torch.cat([front, right, rest], dim=-1)


def _attend_all(q: Tensor, k: Tensor, v: Tensor, there: Tensor, chosen: Tensor, mixed: Tensor) -> Tensor:
    """`mixed` [B, H, n, size, D] where the `chosen` [B] block of each sequence attends to all of its tokens."""
    count, heads, blocks, size, dim = q.shape
    sequence = torch.arange(count, device=q.device)[:, None]
    head = torch.arange(heads, device=q.device)
    place = ((sequence * heads + head) * blocks + chosen[:, None]).flatten()
    asked = q.flatten(0, 2).flatten(1).index_select(0, place).reshape(count, heads, size, dim)
    bias = bias_from(there.flatten(1).bool(), q.dtype)[:, None, None, :]
    whole = torch.softmax(asked @ k.flatten(2, 3).mT + bias, dim=-1) @ v.flatten(2, 3)
    here = torch.arange(blocks, device=q.device) == chosen[:, None]
    return torch.where(here[:, None, :, None, None], whole.unsqueeze(2), mixed)
