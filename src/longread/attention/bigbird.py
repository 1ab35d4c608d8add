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

import torch
from torch import Tensor

from longread.attention.base import Options, SelfAttention, setting
from longread.attention.block_pattern import BlockPattern, GatheredBlocks
from longread.attention.padded_blocks import attend_padded_blocks
from longread.checks import Count, Natural
from longread.errors import UserError
from longread.ops import flex, varlen
from longread.ops.eager import EagerAttention, longest_kept
from longread.ops.gathered import attend_blocks, attend_blocks_by_offset
from longread.ops.offsets import attend_by_offset
from longread.ops.packed import Group, PackedBatch, bias_from, join, split
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
    random_blocks: Tensor  # of an exported graph

    @classmethod
    def published_sizes(cls, head_dim: int) -> dict[str, Any]:
        return {"block_size": 64, "num_random_blocks": 3}

    @property
    def pattern(self) -> BlockPattern:
        own = self.options
        drawn = own.num_random_blocks > 0 and own.random_block_plan == "seeded"
        draw = (self.seed, self.layer) if drawn else None
        return BlockPattern(own.block_size, own.num_random_blocks, self.num_attention_heads, draw)

    @property
    def longest_full(self) -> int:
        return self.pattern.longest_full

    @property
    def plan_key(self) -> Hashable:
        return type(self), self.pattern, self.dropping > 0

    def plan(self, batch: PackedBatch, dtype: torch.dtype, gradients: bool) -> _Packed | list[_Part]:
        pattern = self.pattern
        if not self.has_relative and flex.has_kernel(batch.device, dtype, self.head_dim, self.dropping):
            _ = batch.cu_seqlens
            if batch.longest <= pattern.longest_full:
                return _Packed(None)
            return _Packed(flex.by_blocks(batch, pattern.size, pattern.times))
        parts: list[_Part] = []
        for group in batch.groups:
            whole = group.longest <= pattern.longest_full or _is_short(group, dtype, gradients)
            for own in [group] if whole else pattern.cut(group):
                own.plan(dtype)
                if own.longest <= pattern.longest_full:
                    parts.append(_Part(own))
                elif _is_short(own, dtype, gradients):
                    parts.append(_Part(own, bias=pattern.bias(own, dtype)))
                else:
                    parts.append(_Part(own, blocks=pattern.gathered(own, dtype)))
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
                mixed.append(self._by_blocks(own, part.group, part.blocks, vector))
                continue
            q, k, v = (part.group.pad(heads).transpose(1, 2) for heads in own)
            if vector is not None:
                bias = part.group.key_bias(q.dtype) if part.bias is None else part.bias
                made = attend_by_offset(q, k, v, vector, bias=bias, dropout=self.dropping)
            elif part.bias is None:
                made = attend(q, k, v, bias=part.group.key_bias(q.dtype), dropout=self.dropping)
            else:
                made = EagerAttention.apply(q, k, v, part.bias, self.dropping)  # type: ignore[no-untyped-call]
            mixed.append(part.group.pack(made))
        return join(mixed).flatten(1)

    def _by_blocks(self, own: Sequence[Tensor], group: Group, blocks: GatheredBlocks, vector: Tensor | None) -> Tensor:
        """Sequences of one number of blocks, query, key and value [tokens, H, D] each -> [tokens, H, D]."""
        size, length = self.options.block_size, group.longest
        num_blocks = self.pattern.count(length)
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

    def reference(self, x: Tensor) -> tuple[Tensor, Tensor]:
        length, size, pattern = x.shape[0], self.options.block_size, self.pattern
        q, k, v = self.row_heads_of(x)
        times = torch.ones(self.num_attention_heads, length, length, device=x.device)
        if length > pattern.longest_full:
            num_blocks = -(-length // size)
            drawn = pattern.random_blocks(num_blocks)
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
        bias = bias_from(real, x.dtype)[:, None, None, :]
        # Not slices: a tracer would ask whether they are the whole, and keep one of the two answers.
        begun = torch.arange(shorter, device=x.device)
        short_q, short_k, short_v = (t.index_select(2, begun) for t in (q, k, v))
        short = torch.nn.functional.scaled_dot_product_attention(
            short_q, short_k, short_v, attn_mask=bias.index_select(3, begun)
        )
        short = torch.nn.functional.pad(short, (0, 0, 0, length - shorter))
        long = attend_padded_blocks(q * self.scale, k, v, real, self.options.block_size, self.random_blocks)
        mixed = torch.where((real.sum(1) <= limit)[:, None, None, None], short, long)
        return self.output(mixed.transpose(1, 2).flatten(2))

    def prepare_padded(self) -> None:
        """The random blocks of every number of blocks, int64 [most + 1, H, most, num_random_blocks]."""
        if self.relative_vector() is not None:
            raise UserError(
                "BigBird with a relative position bias, as of MPNet, cannot be exported; "
                "convert the dense checkpoint to Longformer and export that"
            )
        pattern = self.pattern
        most = pattern.count(self.max_length) + 2  # one more than there are: a graph never takes the whole table
        table = torch.zeros(most + 1, pattern.heads, most, pattern.num_random, dtype=torch.long)
        for blocks in range(6 + 2 * pattern.num_random, most + 1):
            table[blocks, :, 1 : blocks - 1] = pattern.random_blocks(blocks)
        self.register_buffer("random_blocks", table.to(self.query.weight.device), persistent=False)

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


class _Packed(NamedTuple):
    """Kernels for packed sequences mix all of them, by the pattern; None: each has full attention."""

    pattern: flex.Pattern | None


class _Part(NamedTuple):
    """Sequences that are mixed together: by blocks, by the pattern as a bias [b, H, N, N], or with full attention."""

    group: Group
    bias: Tensor | None = None
    blocks: GatheredBlocks | None = None


def _is_short(group: Group, dtype: torch.dtype, gradients: bool) -> bool:
    """Small blocks on short sequences: the pattern as a bias beats gathering it (docs/log.md)."""
    limit = longest_kept(dtype) if gradients else min(longest_kept(dtype), LONGEST_INFERRED)
    return group.device.type == "cpu" and group.longest <= limit
