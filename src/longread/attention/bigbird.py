"""BigBird: global, window and random blocks (Zaheer et al. 2020, section 2; the block form of appendix D).

The pattern lies over each sequence's own blocks of `block_size` tokens. Its first and last block see all and are seen
by all; every other block sees its neighbours and `num_random_blocks` others. A sequence of at most
(5 + 2 * num_random_blocks) * block_size tokens has full attention, as in the published model; this is decided for
each sequence and call by its length alone.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from longread.attention.base import Options, SelfAttention, setting
from longread.checks import Count, Natural
from longread.errors import UserError
from longread.ops import flex, varlen
from longread.ops.eager import EagerAttention, longest_kept
from longread.ops.gathered import attend_blocks, attend_blocks_by_offset
from longread.ops.offsets import attend_by_offset
from longread.ops.packed import Group, PackedBatch, bias_from, join, split, to_device
from longread.ops.tiled import attend

# Tokens up to which, without gradients, the pattern as a bias was faster than gathered blocks (docs/log.md).
LONGEST_INFERRED = 128


@dataclass(frozen=True, kw_only=True)
class BigBirdOptions(Options):
    """random_block_plan "seeded": drawn from seed, layer, head and number of blocks, in training as in evaluation.

    "huggingface": what transformers computes in evaluation, where every random index is 0, so that block 0 counts
    1 + num_random_blocks times for the blocks between the first and the last.
    """

    block_size: Count = setting(64, "Tokens of a block.")
    num_random_blocks: Natural = setting(3, "Random blocks that each block attends to.")
    random_block_plan: Literal["seeded", "huggingface"] = setting(
        "seeded", "Which random blocks: drawn by the seed, or those of transformers in evaluation."
    )


class BigBirdAttention(SelfAttention):
    Options = BigBirdOptions
    title = "BigBird"
    color = "#d55e00"
    supports_rotary = True
    supports_relative_bias = True
    plan_table: Tensor

    @classmethod
    def published_sizes(cls, head_dim: int) -> dict[str, Any]:
        return {"block_size": 64, "num_random_blocks": 3}

    @property
    def longest_full(self) -> int:
        return (5 + 2 * self.options.num_random_blocks) * self.options.block_size

    def random_blocks(self, num_blocks: int) -> Tensor:
        """int64 [H, num_blocks - 2, num_random_blocks]: for each middle block, the blocks it sees by chance."""
        heads, count = self.num_attention_heads, self.options.num_random_blocks
        if self.options.random_block_plan == "huggingface" or count == 0:
            return torch.zeros(heads, num_blocks - 2, count, dtype=torch.long)
        generator = np.random.default_rng([self.seed, self.layer, num_blocks])
        # Those that are seen anyway are never drawn: a random order of all blocks, the excluded ones at its end.
        order = generator.random((heads, num_blocks - 2, num_blocks))
        middle = np.arange(1, num_blocks - 1)
        for seen in (0 * middle, middle - 1, middle, middle + 1, 0 * middle + num_blocks - 1):
            order[:, middle - 1, seen] = 2.0
        drawn = np.argpartition(order, count - 1, axis=-1)[..., :count]
        return torch.from_numpy(np.sort(drawn, axis=-1))

    @property
    def plan_key(self) -> Hashable:
        drawn = self.options.num_random_blocks and self.options.random_block_plan == "seeded"
        return (
            type(self), self.options, self.num_attention_heads, self.dropping > 0,
            (self.seed, self.layer) if drawn else None,
        )  # fmt: skip

    def plan(self, batch: PackedBatch, dtype: torch.dtype, gradients: bool) -> _Packed | list[_Part]:
        if not self.has_relative and flex.has_kernel(batch.device, dtype, self.head_dim, self.dropping):
            _ = batch.cu_seqlens
            if batch.longest <= self.longest_full:
                return _Packed(None)
            return _Packed(flex.by_blocks(batch, self.options.block_size, self._times))
        parts: list[_Part] = []
        for group in batch.groups:
            whole = group.longest <= self.longest_full or _is_short(group, dtype, gradients)
            for own in [group] if whole else _by_blocks(group, self.options.block_size):
                own.plan(dtype)
                if own.longest <= self.longest_full:
                    parts.append(_Part(own))
                elif _is_short(own, dtype, gradients):
                    parts.append(_Part(own, pattern=to_device(self._pattern(own, dtype), batch.device)))
                else:
                    parts.append(_Part(own, blocks=self._blocks(own, dtype)))
        return parts

    def mix(self, x: Tensor, batch: PackedBatch) -> Tensor:
        query, key, value = self.packed_heads(x, batch)
        plan: _Packed | list[_Part] = self.planned(batch, query.dtype)
        if isinstance(plan, _Packed):
            if plan.pattern is None:
                return varlen.attend_packed(query, key, value, batch).flatten(1)
            return flex.attend(query, key, value, plan.pattern, batch).flatten(1)
        groups = [part.group for part in plan]
        vector = self.relative_vector()
        mixed = []
        for part, *own in zip(plan, *(split(heads, groups) for heads in (query, key, value)), strict=True):
            if part.blocks is not None:
                mixed.append(self._sparse(own, part.group, part.blocks, vector))
                continue
            q, k, v = (part.group.pad(heads).transpose(1, 2) for heads in own)
            if vector is not None:
                bias = part.group.key_bias(q.dtype) if part.pattern is None else part.pattern
                made = attend_by_offset(q, k, v, vector, bias=bias, dropout=self.dropping)
            elif part.pattern is None:
                made = attend(q, k, v, bias=part.group.key_bias(q.dtype), dropout=self.dropping)
            else:
                made = EagerAttention.apply(q, k, v, part.pattern, self.dropping)  # type: ignore[no-untyped-call]
            mixed.append(part.group.pack(made))
        return join(mixed).flatten(1)

    def _pattern(self, group: Group, dtype: torch.dtype) -> Tensor:
        """[b, H, N, N] to add to scores: ln m for a key whose block is seen m times, very negative for m = 0."""
        size = self.options.block_size
        block = torch.arange(group.longest) // size
        made: dict[int, Tensor] = {}
        biases = []
        for length in group.lengths:
            num_blocks = -(-length // size)
            if num_blocks not in made:
                at = block.clamp(max=num_blocks - 1)
                bias = self._times(length).log().clamp(min=torch.finfo(dtype).min / 4).to(dtype)
                made[num_blocks] = bias[:, at][:, :, at]
            biases.append(made[num_blocks])
        whole = torch.stack(biases)
        lowest = torch.finfo(dtype).min / 4
        valid = group.planned_valid
        return whole if valid is None else whole.masked_fill(~valid[:, None, None, :], lowest)

    def _times(self, length: int) -> Tensor:
        """float64 [H, num_blocks, num_blocks]: how often each block of a sequence sees each."""
        num_blocks = -(-length // self.options.block_size)
        times = torch.ones(self.num_attention_heads, num_blocks, num_blocks, dtype=torch.float64)
        if length > self.longest_full:
            seen, wanted = self._seen(num_blocks)
            times[:, 1:-1] = 0.0
            times[:, 1:-1].scatter_add_(2, seen, wanted.to(times.dtype))
        return times

    def _seen(self, num_blocks: int) -> tuple[Tensor, Tensor]:
        """int64 [H, middle, seen]: the blocks that each middle one sees, and bool: which of them count."""
        middle = torch.arange(1, num_blocks - 1)
        fixed = torch.stack([0 * middle, middle - 1, middle, middle + 1, 0 * middle + num_blocks - 1], dim=-1)
        blocks = torch.cat([fixed.expand(self.num_attention_heads, -1, -1), self.random_blocks(num_blocks)], dim=-1)
        wanted = torch.ones_like(blocks, dtype=torch.bool)
        wanted[:, 0, 1] = False  # block 1: its left neighbour is the first block, counted already
        wanted[:, -1, 3] = False
        return blocks, wanted

    def _sparse(self, own: Sequence[Tensor], group: Group, blocks: _Blocks, vector: Tensor | None) -> Tensor:
        """Sequences of one number of blocks, query, key and value [tokens, H, D] each -> [tokens, H, D]."""
        size, length = self.options.block_size, group.longest
        num_blocks = -(-length // size)
        missing = num_blocks * size - length
        # Head-major blocks [b, H, num_blocks, size, D], so that a block of one head is one piece of memory.
        q, k, v = (
            torch.nn.functional.pad(group.pad(h), (0, 0, 0, 0, 0, missing))
            .transpose(1, 2)
            .contiguous()
            .unflatten(2, (num_blocks, size))
            for h in own
        )
        if vector is None:
            padded = attend_blocks(q, k, v, blocks.index, blocks.bias, blocks.key_bias, self.dropping)
        else:
            padded = attend_blocks_by_offset(
                q, k, v, blocks.index, blocks.bias, blocks.key_bias, blocks.steps, vector, self.dropping
            )
        return group.pack(padded[:, :length])

    def _blocks(self, group: Group, dtype: torch.dtype) -> _Blocks:
        size, heads, b = self.options.block_size, self.num_attention_heads, group.count
        num_blocks = -(-group.longest // size)
        blocks, wanted = self._seen(num_blocks)
        text_and_head = (torch.arange(b)[:, None] * heads + torch.arange(heads)) * num_blocks
        index = text_and_head[:, :, None, None] + blocks  # [b, H, middle, seen]
        lengths = torch.tensor(group.lengths)
        token = torch.arange(num_blocks * size)
        real = (token < lengths[:, None]).unflatten(1, (num_blocks, size))  # [b, blocks, size]
        allowed = real[:, blocks] & wanted[..., None]  # [b, H, middle, seen, size]
        bias = bias_from(allowed.flatten(0, 2).flatten(1), dtype)[:, None, None, :]
        key_bias = bias_from(real.flatten(1), dtype)[:, None, None, :]
        steps = blocks - torch.arange(1, num_blocks - 1)[:, None]
        return _Blocks(*(to_device(tensor, group.device) for tensor in (index, bias, key_bias, steps)))

    def reference(self, x: Tensor) -> tuple[Tensor, Tensor]:
        length, size = x.shape[0], self.options.block_size
        q, k, v = self.row_heads_of(x)
        times = torch.ones(self.num_attention_heads, length, length, device=x.device)
        if length > self.longest_full:
            num_blocks = -(-length // size)
            drawn = self.random_blocks(num_blocks)
            blocks = torch.zeros(self.num_attention_heads, num_blocks, num_blocks, device=x.device)
            blocks[:, [0, -1], :] = 1
            for i in range(1, num_blocks - 1):
                blocks[:, i, sorted({0, i - 1, i, i + 1, num_blocks - 1})] = 1
                for head in range(self.num_attention_heads):
                    for j in drawn[head, i - 1].tolist():
                        blocks[head, i, j] += 1
            times = blocks.repeat_interleave(size, 1).repeat_interleave(size, 2)[:, :length, :length]
        scores = q @ k.transpose(-1, -2) * self.scale + self.row_bias(length)
        # A key that is seen m times has m times its weight.
        weights = times * torch.exp(scores - scores.amax(-1, keepdim=True))
        matrix = weights / weights.sum(-1, keepdim=True)
        return self.row_output(matrix @ v), matrix

    def padded(self, x: Tensor, real: Tensor) -> Tensor:
        """Short sequences with full attention, longer ones by blocks; each has its own last block and random ones."""
        length, limit = x.shape[1], self.longest_full
        shorter = torch.sym_min(length, limit)
        q, k, v = self.padded_heads_of(x)
        tokens = real.sum(1)
        bias = bias_from(real, x.dtype)[:, None, None, :]
        short = torch.nn.functional.scaled_dot_product_attention(
            q[:, :, :shorter], k[:, :, :shorter], v[:, :, :shorter], attn_mask=bias[..., :shorter]
        )
        short = torch.nn.functional.pad(short, (0, 0, 0, length - shorter))
        mixed = torch.where((tokens <= limit)[:, None, None, None], short, self._padded_blocks(q, k, v, real))
        return self.output(mixed.transpose(1, 2).flatten(2))

    def _padded_blocks(self, q: Tensor, k: Tensor, v: Tensor, real: Tensor) -> Tensor:
        """[B, H, N, D] -> [B, H, N, D]; right for sequences of more than `longest_full` tokens."""
        size, heads = self.options.block_size, self.num_attention_heads
        count, _, length, dim = q.shape
        missing = (-length) % size + size  # two blocks at least: a tracer takes a size of 1 for a constant
        pad = torch.nn.functional.pad
        q, k, v = (pad(t, (0, 0, 0, missing)).unflatten(2, (-1, size)) for t in (q, k, v))  # [B, H, n, size, D]
        there = pad(real.to(torch.int32), (0, missing)).unflatten(1, (-1, size))  # [B, n, size]
        blocks = q.shape[2]
        last = ((real.sum(1) + size - 1) // size).clamp(min=1) - 1  # [B]
        i = torch.arange(blocks, device=q.device)
        fixed = torch.stack([0 * i, i - 1, i, i + 1, 0 * i], dim=-1).clamp(min=0)  # [n, 5]
        seen = torch.cat([fixed[:, :4].expand(count, -1, -1), last[:, None, None].expand(-1, blocks, 1)], dim=-1)
        drawn = self.plan_table[last + 1][:, :, :blocks]  # [B, H, n, r]
        seen = torch.cat([seen[:, None].expand(-1, heads, -1, -1), drawn], dim=-1)
        seen = torch.minimum(seen, last[:, None, None, None])
        wanted = torch.stack([i >= 0, i != 1, i >= 0], dim=-1).expand(count, -1, -1)
        inner = (i != last[:, None] - 1).unsqueeze(-1)
        rest = torch.ones(count, blocks, 1 + drawn.shape[-1], dtype=torch.bool, device=q.device)
        wanted = torch.cat([wanted, inner, rest], dim=-1)  # [B, n, seen]
        text = torch.arange(count, device=q.device)[:, None, None, None]
        head = torch.arange(heads, device=q.device)[:, None, None]
        flat = ((text * heads + head) * blocks + seen).flatten()
        shape = (count, heads, blocks, seen.shape[-1] * size, dim)
        near_k, near_v = (t.flatten(0, 2).flatten(1).index_select(0, flat).reshape(shape) for t in (k, v))
        near = there.flatten(0, 1).index_select(0, (text * blocks + seen).flatten())
        near = near.reshape(count, heads, blocks, seen.shape[-1], size).bool() & wanted[:, None, :, :, None]
        scores = (q * self.scale) @ near_k.mT + bias_from(near.flatten(3), q.dtype).unsqueeze(3)
        mixed = torch.softmax(scores, dim=-1) @ near_v  # [B, H, n, size, D]
        every_k, every_v = k.flatten(2, 3), v.flatten(2, 3)
        bias = bias_from(there.flatten(1).bool(), q.dtype)[:, None, None, :]
        for chosen in (0 * last, last):  # the first and the last block see all
            at = (text[:, :, 0, 0] * heads + head[:, 0, 0]) * blocks + chosen[:, None]
            asked = q.flatten(0, 2).flatten(1).index_select(0, at.flatten()).reshape(count, heads, size, dim)
            whole = torch.softmax(asked * self.scale @ every_k.mT + bias, dim=-1) @ every_v
            mixed = torch.where((i == chosen[:, None])[:, None, :, None, None], whole.unsqueeze(2), mixed)
        return mixed.flatten(2, 3)[:, :, :length]

    def prepare_padded(self) -> None:
        """A table of `random_blocks` for every number of blocks, int64 [most + 1, H, most, num_random_blocks]."""
        if self.relative_vector() is not None:
            raise UserError("BigBird with a relative position bias cannot be exported; export the model as Longformer")
        most = -(-self.max_length // self.options.block_size) + 1
        table = torch.zeros(most + 1, self.num_attention_heads, most, self.options.num_random_blocks, dtype=torch.long)
        for blocks in range(6 + 2 * self.options.num_random_blocks, most + 1):
            table[blocks, :, 1 : blocks - 1] = self.random_blocks(blocks)
        self.register_buffer("plan_table", table.to(self.query.weight.device), persistent=False)

    def coverage(self, lengths: Sequence[int]) -> dict[str, int]:
        full = sum(n for n in lengths if n <= self.longest_full)
        return {"full": full, "global+window+random": sum(lengths) - full}

    def flops(self, length: int) -> float:
        pairs = float(length) ** 2
        if length > self.longest_full:
            size = self.options.block_size
            seen = (5 + self.options.num_random_blocks) * size
            pairs = float(2 * size * length + (length - 2 * size) * seen)
        return 4.0 * pairs * self.num_attention_heads * self.head_dim


@dataclass(frozen=True)
class _Blocks:
    """index [b, H, middle, seen] of blocks, bias [b * H * middle, 1, 1, seen * size], key_bias [b, 1, 1, N],

    steps [H, middle, seen]: by how many blocks those seen lie behind the one that sees them.
    """

    index: Tensor
    bias: Tensor
    key_bias: Tensor
    steps: Tensor


class _Packed(NamedTuple):
    """Kernels for packed sequences mix all of them, by the pattern; None: each has full attention."""

    pattern: flex.Pattern | None


class _Part(NamedTuple):
    """Sequences that are mixed together: by blocks, by the pattern as a bias [b, H, N, N], or with full attention."""

    group: Group
    pattern: Tensor | None = None
    blocks: _Blocks | None = None


def _is_short(group: Group, dtype: torch.dtype, gradients: bool) -> bool:
    """Small blocks on short sequences: the pattern as a bias beats gathering it (docs/log.md)."""
    limit = longest_kept(dtype) if gradients else min(longest_kept(dtype), LONGEST_INFERRED)
    return group.device.type == "cpu" and group.longest <= limit


def _by_blocks(group: Group, size: int) -> list[Group]:
    """The group cut where the number of blocks changes: the sequences of one part share a pattern."""
    parts: list[Group] = []
    begin = 0
    for end in range(1, group.count + 1):
        if end == group.count or -(-group.lengths[end] // size) != -(-group.lengths[begin] // size):
            parts.append(Group(group.lengths[begin:end], group.first + begin, group.device))
            begin = end
    return parts
