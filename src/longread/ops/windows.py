"""A sliding window over a padded batch, in operators that an exported graph knows: blocks, each with its neighbours."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from longread.ops.packed import bias_from
from longread.ops.relative_bias import tile_bias


def tokens_missing(length: int, side: int) -> int:
    """To whole blocks; two blocks at least, because a tracer takes a size of 1 for a constant."""
    return (-length) % side + side


def windows(
    query: Tensor, key: Tensor, value: Tensor, seen: Tensor, side: int, vector: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Queries in blocks as long as one side of the window, and for each block the keys and values that it may see.

    query, key, value [B, H, N, D] and seen bool [B, N], the keys that count -> blocks [B, H, n, side, D], near keys and
    values [B, H, n, 3 * side, D], bias [B, 1 or H, n, side, 3 * side]. vector: what scores get by offset, or None.
    """
    missing = tokens_missing(query.shape[2], side)
    blocks = pad(query, (0, 0, 0, missing)).unflatten(2, (-1, side))
    near_key, near_value = (_neighbours(heads, 2, side, missing) for heads in (key, value))
    near = _neighbours(seen.to(torch.int32).unsqueeze(-1), 1, side, missing).squeeze(-1).bool()  # [B, n, 3 * side]
    place = torch.arange(3 * side, device=query.device) - side
    inside = (place - torch.arange(side, device=query.device)[:, None]).abs() <= side  # [side, 3 * side]
    bias = bias_from(near[:, None, :, None, :] & inside, query.dtype)
    if vector is not None:
        bias = bias + tile_bias(vector, 0, side, -side, 2 * side).unsqueeze(1)
    return blocks, near_key, near_value, bias


def _neighbours(x: Tensor, dim: int, size: int, missing: int) -> Tensor:
    """[..., N, D] -> [..., blocks, 3 * size, D]: each block of `size` tokens with those before and behind it."""
    blocks = pad(x, (0, 0, size, size + missing)).unflatten(dim, (-1, size))
    count = blocks.shape[dim] - 2
    return torch.cat([blocks.narrow(dim, first, count) for first in (0, 1, 2)], dim=dim + 1)
