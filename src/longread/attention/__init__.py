"""The attention mechanisms. A new one is a file of its own and a line in ATTENTIONS."""

from longread.attention.base import SelfAttention
from longread.attention.bigbird import BigBirdAttention
from longread.attention.dense import DenseAttention
from longread.attention.linformer import LinformerAttention
from longread.attention.longformer import LongformerAttention
from longread.attention.performer import PerformerAttention

ATTENTIONS: dict[str, type[SelfAttention]] = {
    "dense": DenseAttention,
    "longformer": LongformerAttention,
    "bigbird": BigBirdAttention,
    "performer": PerformerAttention,
    "linformer": LinformerAttention,
}

__all__ = ["ATTENTIONS", "SelfAttention"]
