"""What an encoder is: every difference between families of models is a field of one configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from longread.attention import ATTENTIONS
from longread.checks import Count, Fraction, Natural, NotNegative, check_fields

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": nn.functional.gelu,
    "gelu_tanh": lambda x: nn.functional.gelu(x, approximate="tanh"),
    "relu": nn.functional.relu,
    "silu": nn.functional.silu,
    "tanh": torch.tanh,
}
IN_PLACE: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": torch.ops.aten.gelu_,
    "gelu_tanh": lambda x: torch.ops.aten.gelu_(x, approximate="tanh"),
    "relu": torch.relu_,
    "silu": lambda x: nn.functional.silu(x, inplace=True),
    "tanh": torch.tanh_,
}
Activation = Literal["gelu", "gelu_tanh", "relu", "silu", "tanh"]


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """`options` are the mechanism's own settings, an instance of its `Options`. ValueError for what does not fit."""

    attention: str = "dense"
    options: Any = None
    vocab_size: Count = 8192
    num_hidden_layers: Natural = 2
    hidden_size: Count = 64
    embedding_size: Count | None = None  # None: hidden_size; else a linear layer leads from one to the other (ELECTRA)
    num_attention_heads: Count = 4
    head_dim: Count | None = None  # None: hidden_size / num_attention_heads
    intermediate_size: Count | None = None  # None: 4 * hidden_size
    hidden_act: Activation = "gelu"
    max_length: Count = 4096  # tokens of the longest sequence, which is the number of trained positions
    position_offset: Natural = 0  # RoBERTa starts counting at padding_idx + 1 = 2
    type_vocab_size: Natural = 0
    layer_norm_eps: NotNegative = 1e-5
    norm_position: Literal["pre", "post"] = "pre"  # post: as in BERT
    dropout_before_norm: bool = False  # in the embedding, as in BigBird
    embedding_scale: float = 1.0
    dropout: Fraction = 0.1
    embedding_dropout: Fraction | None = None  # None: dropout
    attention_output_dropout: Fraction | None = None  # of what attention adds to the residual; None: dropout
    classifier_dropout: Fraction | None = None  # in the head; None: dropout
    attention_dropout: Fraction = 0.0  # of the attention probabilities, for mechanisms that have them
    pooling: Literal["mean", "first", "positions"] = "mean"  # positions: a number a token, a weight a position
    head_activation: Activation | None = None  # None: a linear head; else dense + activation + linear
    dropout_before_head: bool = False  # in front of that dense layer too, as in RoBERTa
    num_labels: Count = 2
    initializer_range: NotNegative = 0.02
    seed: int = 0
    label_names: tuple[str, ...] | None = None
    checkpointing: bool = False  # recompute a block's activations in the backward pass

    def __post_init__(self) -> None:
        _check_attention(self.attention)
        check_fields(self)
        if self.embedding_size == self.hidden_size:
            object.__setattr__(self, "embedding_size", None)
        mechanism = ATTENTIONS[self.attention]
        if self.options is None:
            object.__setattr__(self, "options", mechanism.Options())
        if not isinstance(self.options, mechanism.Options):
            raise ValueError(f"options of {self.attention} must be {mechanism.Options.__name__}")
        if self.head_activation is not None and self.pooling == "positions":
            raise ValueError('pooling="positions" goes with a linear head; leave head_activation out')
        if self.head_dim is None and self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is no multiple of num_attention_heads {self.num_attention_heads}; "
                "change one of them, or give head_dim"
            )
        if self.attention_dropout and not mechanism.supports_attention_dropout:
            raise ValueError(
                f"attention_dropout is {self.attention_dropout}; {mechanism.title} has no attention probabilities to "
                "drop, give it 0"
            )

    @property
    def width_of_head(self) -> int:
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def width_of_intermediate(self) -> int:
        return self.intermediate_size or 4 * self.hidden_size

    @property
    def width_of_embedding(self) -> int:
        return self.embedding_size or self.hidden_size

    def dropout_of(self, part: str) -> float:
        """The rate of a part that may have its own, such as "embedding", or else the common one."""
        own = getattr(self, f"{part}_dropout")
        return float(self.dropout if own is None else own)

    def to_dict(self) -> dict[str, Any]:
        """Flat: the mechanism's settings stand beside the others."""
        flat = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "options"}
        return flat | dataclasses.asdict(self.options)

    @classmethod
    def from_dict(cls, flat: Mapping[str, Any]) -> ClassifierConfig:
        """The inverse of `to_dict`. ValueError names a field that neither the encoder nor the mechanism has."""
        attention = flat.get("attention", "dense")
        _check_attention(attention)
        Options = ATTENTIONS[attention].Options
        own = {f.name for f in dataclasses.fields(Options)}
        shared = {f.name for f in dataclasses.fields(cls)} - {"options"}
        unknown = sorted(set(flat) - own - shared)
        if unknown:
            raise ValueError(
                f"{attention} has no setting {', '.join(unknown)}; "
                f"its own are {', '.join(sorted(own)) or 'none'}, the encoder's {', '.join(sorted(shared))}"
            )
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in flat.items()}
        options = Options(**{name: values[name] for name in own if name in values})
        return cls(options=options, **{name: values[name] for name in shared if name in values})


def _check_attention(name: Any) -> None:
    if name not in ATTENTIONS:
        raise ValueError(f"attention is {name!r}; it must be one of {', '.join(ATTENTIONS)}")
