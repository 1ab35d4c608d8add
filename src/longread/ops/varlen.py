"""Softmax attention over packed sequences by torch's variable-length kernel (FlashAttention): no padding, no groups.

It exists on CUDA, in half precision, without dropout. Never run by this project, which has had no GPU; the tests hold
what it is asked for, and `make gpu-check` what it answers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from longread.ops.packed import PackedBatch

LARGEST_HEAD = 256
HEAD_STEP = 8  # the kernel takes heads whose width is a multiple of it
FIRST_CAPABILITY = (8, 0)  # Ampere


def has_kernel(query: Tensor, dropout: float) -> bool:
    """Whether the kernel takes queries like these, [T, H, D]."""
    return is_there(query.device, query.dtype, query.shape[-1], dropout)


def is_there(device: torch.device, dtype: torch.dtype, head_dim: int, dropout: float) -> bool:
    """The same of queries that are not there yet."""
    return (
        device.type == "cuda"
        and dtype in (torch.bfloat16, torch.float16)
        and not dropout
        and head_dim % HEAD_STEP == 0
        and head_dim <= LARGEST_HEAD
        and torch.version.hip is None
        and torch.cuda.get_device_capability(device) >= FIRST_CAPABILITY
    )


def attend_packed(query: Tensor, key: Tensor, value: Tensor, batch: PackedBatch, side: int = -1) -> Tensor:
    """query, key, value [T, H, D] -> [T, H, D]. side: tokens that are seen to the left and to the right; -1: all."""
    from torch.nn.attention.varlen import varlen_attn

    batch.kernels.add("varlen_attn")
    starts, longest = batch.cu_seqlens, batch.longest
    return varlen_attn(query, key, value, starts, starts, longest, longest, window_size=(side, side))  # type: ignore[return-value]
