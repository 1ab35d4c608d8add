"""What an encoder is: every difference between families of models is a field of one configuration."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from longread.attention import ATTENTIONS
from longread.attention.pattern import canonical, make_options, mechanisms_of, settings_of
from longread.checks import Count, Fraction, Natural, NotNegative, Positive, check_fields
from longread.problems import REGRESSION, SINGLE_LABEL, ProblemType

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
MOST_DISTANCE = 1 << 16  # of a relative bias, which makes a table of all offsets
Activation = Literal["gelu", "gelu_tanh", "relu", "silu", "tanh"]


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """ValueError for what does not fit.

    `options` are the mechanism's own settings, an instance of its `Options`; of a pattern a tuple of them, one for each
    of its `mechanisms`.
    """

    attention: str = "dense"  # or a pattern of several that repeats over the layers, such as "dense local local"
    options: Any = None
    vocab_size: Count = 8192
    num_hidden_layers: Natural = 2
    hidden_size: Count = 64
    embedding_size: Count | None = None  # None: hidden_size; else a linear layer leads from one to the other (ELECTRA)
    num_attention_heads: Count = 4
    head_dim: Count | None = None  # None: hidden_size / num_attention_heads
    intermediate_size: Count | None = None  # None: 4 * hidden_size
    hidden_act: Activation = "gelu"
    gated: bool = False  # the feed-forward multiplies what it activates by a second projection, as in ModernBERT
    attention_bias: bool = True
    feed_forward_bias: bool = True
    norm_bias: bool = True
    max_length: Count = 4096  # tokens of the longest sequence; the number of learned positions
    position_kind: Literal["learned", "rotary"] = "learned"  # a table in the embedding, or turned queries and keys
    rotary_base: Positive | tuple[Positive, ...] = 10_000.0  # several: they repeat over the layers
    position_offset: Natural = 0  # RoBERTa starts counting at padding_idx + 1 = 2
    type_vocab_size: Natural = 0
    layer_norm_eps: NotNegative = 1e-5
    relative_buckets: Natural = 0  # of a bias by offset, which layers share, as in MPNet; 0: there is none
    relative_max_distance: Count = 128  # offsets from here on share a bucket
    norm_position: Literal["pre", "post"] = "pre"  # post: as in BERT
    first_attention_norm: bool = True  # False: with pre, the first layer takes the normalised embedding as it is
    dropout_before_norm: bool = False  # in the embedding, as in BigBird
    embedding_scale: float = 1.0
    dropout: Fraction = 0.1
    embedding_dropout: Fraction | None = None  # None: dropout
    attention_output_dropout: Fraction | None = None  # of what attention adds to the residual; None: dropout
    classifier_dropout: Fraction | None = None  # in the head; None: dropout
    dropout_inside: bool = False  # the feed-forward drops in front of its second layer, not behind it
    attention_dropout: Fraction = 0.0  # of the attention probabilities, for mechanisms that have them
    pooling: Literal["mean", "first", "positions"] = "mean"  # positions: a number a token, a weight a position
    head_activation: Activation | None = None  # None: a linear head; else dense + activation + linear
    head_bias: bool = True  # of that dense layer
    head_norm: bool = False  # behind its activation
    dropout_before_head: bool = False  # in front of that dense layer too, as in RoBERTa
    num_labels: Count = 2
    initializer_range: NotNegative = 0.02
    seed: int = 0
    label_names: tuple[str, ...] | None = None
    problem_type: ProblemType | None = None  # None: a regression with one label, as transformers has it, else one class
    checkpointing: bool = False  # recompute a block's activations in the backward pass

    def __post_init__(self) -> None:
        self._resolve("attention", canonical(self.attention))
        check_fields(self)
        if isinstance(self.rotary_base, tuple) and len(set(self.rotary_base)) == 1:
            self._resolve("rotary_base", self.rotary_base[0])
        if self.embedding_size == self.hidden_size:
            self._resolve("embedding_size", None)
        if self.problem_type is None:
            self._resolve("problem_type", REGRESSION if self.num_labels == 1 else SINGLE_LABEL)
        if self.options is None:
            self._resolve("options", _options_of(self.attention, {}))
        self._check_answers()
        self._check_mechanisms()
        self._check_positions()

    def _resolve(self, name: str, value: Any) -> None:
        """A field that was left open, or was written another way."""
        object.__setattr__(self, name, value)

    def _check_answers(self) -> None:
        if self.problem_type == REGRESSION and self.num_labels != 1:
            raise ValueError(f"problem_type is {REGRESSION} and num_labels {self.num_labels}; one number is predicted")
        doubled, times = next(iter(Counter(self.label_names or ()).most_common(1)), ("", 0))
        if times > 1:
            raise ValueError(f"{times} labels are named {doubled!r}; rename them (in config.json: id2label)")
        if self.head_activation is not None and self.pooling == "positions":
            raise ValueError('pooling="positions" goes with a linear head; leave head_activation out')

    def _check_mechanisms(self) -> None:
        for name, options in zip(self.mechanisms, self._all_options(), strict=True):
            if not isinstance(options, ATTENTIONS[name].Options):
                raise ValueError(f"options of {name} must be {ATTENTIONS[name].Options.__name__}")
        if self.head_dim is None and self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is no multiple of num_attention_heads {self.num_attention_heads}; "
                "change one of them, or give head_dim"
            )
        for mechanism in (ATTENTIONS[name] for name in self.mechanisms):
            if self.attention_dropout and not mechanism.supports_attention_dropout:
                raise ValueError(
                    f"attention_dropout is {self.attention_dropout}; {mechanism.title} has no attention probabilities "
                    "to drop, give it 0"
                )
            if self.position_kind == "rotary" and not mechanism.supports_rotary:
                raise ValueError(f'position_kind is "rotary"; {mechanism.title} cannot turn its queries and keys')

    def _check_positions(self) -> None:
        if self.relative_buckets and not self.bias_layers:
            raise ValueError(
                f"relative_buckets is {self.relative_buckets}; {ATTENTIONS[self.mechanisms[0]].title} adds no "
                "such bias to its scores, give it 0"
            )
        if self.relative_max_distance > MOST_DISTANCE:
            raise ValueError(
                f"relative_max_distance is {self.relative_max_distance}; it must be at most {MOST_DISTANCE}"
            )
        if self.relative_buckets % 4 or self.relative_buckets // 4 >= self.relative_max_distance:
            raise ValueError(
                f"relative_buckets is {self.relative_buckets}; it must be a multiple of 4, and a quarter of it below "
                f"relative_max_distance, here {self.relative_max_distance}"
            )
        if self.position_kind == "rotary" and self.width_of_head % 2:
            raise ValueError(f"head_dim is {self.width_of_head}; rotary positions turn pairs, so it must be even")

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """The names in the pattern, each once."""
        return tuple(mechanisms_of(self.attention))

    def attention_of(self, layer: int) -> str:
        """The mechanism of a layer, counted from 0."""
        pattern = self.attention.split()
        return pattern[layer % len(pattern)]

    @property
    def bias_layers(self) -> tuple[str, ...]:
        """The mechanisms that add a bias by offset to their scores, if there is one."""
        return tuple(name for name in self.mechanisms if ATTENTIONS[name].supports_relative_bias)

    def look(self) -> dict[str, str | None]:
        """How reports name and draw it; a pattern has the names of its layers, Dense-Local-Local, and no colour."""
        looks = [ATTENTIONS[name].look() for name in self.attention.split()]
        if len(looks) == 1:
            return looks[0]
        return {"title": "-".join(str(look["title"]) for look in looks), "color": None}

    def options_of(self, mechanism: str) -> Any:
        return self._all_options()[self.mechanisms.index(mechanism)]

    def _all_options(self) -> tuple[Any, ...]:
        """In the order of `mechanisms`."""
        return self.options if isinstance(self.options, tuple) else (self.options,)

    def rotary_base_of(self, layer: int) -> float | None:
        """None where positions are learned."""
        if self.position_kind != "rotary":
            return None
        bases = self.rotary_base if isinstance(self.rotary_base, tuple) else (self.rotary_base,)
        return bases[layer % len(bases)]

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

    def own_settings(self) -> dict[str, Any]:
        """Those of the mechanisms, flat."""
        return {name: value for options in self._all_options() for name, value in dataclasses.asdict(options).items()}

    def to_dict(self) -> dict[str, Any]:
        """Flat: the mechanisms' settings stand beside the others."""
        flat = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "options"}
        return flat | self.own_settings()

    @classmethod
    def from_dict(cls, flat: Mapping[str, Any]) -> ClassifierConfig:
        """The inverse of `to_dict`. ValueError names a field that neither the encoder nor a mechanism of it has."""
        attention = canonical(flat.get("attention", "dense"))
        own = set(settings_of(attention))
        shared = {f.name for f in dataclasses.fields(cls)} - {"options"}
        unknown = sorted(set(flat) - own - shared)
        if unknown:
            raise ValueError(
                f"{attention} has no setting {', '.join(unknown)}; "
                f"its own are {', '.join(sorted(own)) or 'none'}, the encoder's {', '.join(sorted(shared))}"
            )
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in flat.items()}
        options = _options_of(attention, values)
        return cls(options=options, **{name: values[name] for name in shared if name in values})


def _options_of(attention: str, values: Mapping[str, Any]) -> Any:
    made = make_options(attention, values)
    return made[0] if len(made) == 1 else made
