"""What an attention mechanism is.

Shapes: T tokens of all sequences, N tokens of one, H heads, D = head_dim.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from longread.checks import check_fields
from longread.errors import UserError
from longread.ops import short
from longread.ops.dropout import Dropout
from longread.ops.int8 import through
from longread.ops.linear import Linear
from longread.ops.packed import PackedBatch, to_device
from longread.ops.relative_bias import RelativeBias, along, tile_bias
from longread.ops.rotary import Turn, cosines_and_sines, turn


def setting(default: Any, help: str, *, from_scratch: bool = False) -> Any:
    """A field of `Options`: its default, and the help text of its command-line option.

    from_scratch: it decides how weights begin, and means nothing for a checkpoint's.
    """
    return field(default=default, metadata={"help": help, "from_scratch": from_scratch})


@dataclass(frozen=True, kw_only=True)
class Options:
    """A mechanism's own settings; each is a command-line option, a field of a run's record and of a checkpoint.

    UserError for values that do not fit the fields' annotations (longread.checks).
    """

    def __post_init__(self) -> None:
        check_fields(self)


class SelfAttention(nn.Module, ABC):
    """Multi-head self-attention of every token with its own sequence. A subclass is one mechanism.

    `forward` is the fast path over a packed batch and never forms an N x N tensor of a long sequence; `reference` is
    the specification for one sequence. Everything else about a mechanism is read from what its class declares here.
    """

    Options: ClassVar[type[Options]] = Options
    title: ClassVar[str] = ""  # as reports write it; empty: the name of the class
    color: ClassVar[str | None] = None  # of its lines in figures, "#rrggbb"; None: the report picks one
    stands_alone: ClassVar[bool] = True  # False for one that belongs between layers of another; not compared by default
    supports_attention_dropout: ClassVar[bool] = True  # False where there are no attention probabilities to drop
    has_global_tokens: ClassVar[bool] = False  # which may be given with a batch
    supports_relative_bias: ClassVar[bool] = False  # whether it adds `relative_vector` to its scores, by offset
    supports_rotary: ClassVar[bool] = False  # whether its queries and keys come from the `heads` methods below
    spares_queries: ClassVar[bool] = False  # whether its `mix_first` makes no query but the first of a sequence
    int8_layers: ClassVar[tuple[str, ...]] = ("query", "key", "value", "output")  # called on every token
    new_parameters: ClassVar[tuple[str, ...]] = ()  # names of parameters that dense attention has no counterpart of

    def __init__(
        self,
        hidden_size: int,
        num_attention_heads: int,
        head_dim: int,
        max_length: int,
        options: Any,
        layer: int = 0,
        seed: int = 0,
        dropout: float = 0.0,
        bias: bool = True,
        rotary_base: float | None = None,
        relative: RelativeBias | None = None,
    ) -> None:
        """bias: of projections; rotary_base: of rotary positions (None: there are none); relative: what is added to

        scores by the offset of a key, a module of the model's that its layers share and none of them counts as its own.
        """
        super().__init__()
        self.num_attention_heads = num_attention_heads
        self.head_dim = head_dim
        self.max_length = max_length
        self.options = options
        self.layer = layer
        self.seed = seed
        self.dropout = Dropout(dropout)  # of the attention probabilities
        inner = num_attention_heads * head_dim
        self.query = Linear(hidden_size, inner, bias=bias)
        self.key = Linear(hidden_size, inner, bias=bias)
        self.value = Linear(hidden_size, inner, bias=bias)
        self.output = Linear(inner, hidden_size, bias=bias)
        self.rotary_base = rotary_base
        self._shared = (relative,)  # in a tuple: no part of this layer's state

    @classmethod
    def look(cls) -> dict[str, str | None]:
        """How reports name and draw it: for a run's record, from which alone reports are made."""
        return {"title": cls.title, "color": cls.color}

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        if "title" not in vars(cls):
            cls.title = cls.__name__.removesuffix("Attention")

    @classmethod
    def published_sizes(cls, head_dim: int) -> dict[str, Any]:
        """The options that decide how much it computes, as published: what its speed is quoted at."""
        return {}

    @classmethod
    def conversion_options(cls, given: Mapping[str, Any], head_dim: int) -> dict[str, Any]:
        """The options under which a dense layer is converted: those given, and what was left open."""
        return dict(given)

    def from_dense(self, dense: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """This layer's state, begun from a dense layer's; what dense attention has not is as it was initialised."""
        return self.state_dict() | dict(dense)

    def from_shorter(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """This layer's state, from a layer of the same mechanism for another max_length."""
        return dict(state)

    def learning_rate_factors(self) -> dict[str, float]:
        """Parameters that learn at another rate than the rest: name in this layer -> factor."""
        return {}

    def distillation_factors(self, mean_length: float) -> dict[str, float]:
        """The same while a converted model is distilled, on sequences of `mean_length` tokens on average."""
        return dict.fromkeys(self.new_parameters, 10.0)

    def after_step(self, step: int) -> None:
        """Called after each training step, the first being 1."""

    @property
    def scale(self) -> float:
        return 1 / math.sqrt(self.head_dim)

    @property
    def dropping(self) -> float:
        """The part of the attention probabilities that is dropped now: in training alone."""
        return self.dropout.rate if self.training else 0.0

    def global_tokens_of(self, token_types: Tensor, mask: Tensor) -> Tensor | None:
        """Which tokens the types make global, where a caller knows no more: types and mask [B, N] -> bool [B, N].

        None: the types decide nothing. ValueError where they would have to and do not.
        """
        return None

    def plan(self, batch: PackedBatch, dtype: torch.dtype, gradients: bool) -> Any:
        """Every index, mask and tile that a pass over `batch` needs, made on the processor from its lengths alone.

        dtype: of the queries; gradients: whether a backward pass follows. What it returns, `planned` gives to `mix`.
        """
        _ = batch.cu_seqlens
        for group in batch.groups:
            group.plan(dtype)

    @property
    def plan_key(self) -> Hashable:
        """What a plan depends on beside the batch: layers with equal keys share theirs."""
        return type(self)

    def planned(self, batch: PackedBatch, dtype: torch.dtype, gradients: bool | None = None) -> Any:
        """The plan of `batch`, made now where it was not made ahead. gradients None: as torch is set now."""
        gradients = torch.is_grad_enabled() if gradients is None else gradients
        if self.rotary_base is not None:
            self._angles(batch)
        return batch.plan((self.plan_key, dtype, gradients), lambda: self.plan(batch, dtype, gradients))

    @abstractmethod
    def mix(self, x: Tensor, batch: PackedBatch) -> Tensor:
        """x [T, hidden] -> [T, H * D], before the output projection. Asks the device for no number."""

    def mix_first(self, x: Tensor, batch: PackedBatch) -> Tensor:
        """What `mix` gives for the first token of each sequence, [B, H * D]: `spares_queries` classes do less."""
        return self.mix(x, batch).index_select(0, batch.first_tokens)

    def forward(self, x: Tensor, batch: PackedBatch, first: bool = False) -> Tensor:
        """x [T, hidden] -> [T, hidden]; with `first` that of the first token of each sequence alone, [B, hidden]."""
        kind = x.device.type
        if torch.is_autocast_enabled(kind):  # cast here once, where each projection would make a copy of its own
            x = x.to(torch.get_autocast_dtype(kind))
        return self.output(self.mix_first(x, batch) if first else self.mix(x, batch))

    @abstractmethod
    def reference(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """One sequence, x [N, hidden] -> out [N, hidden] and A [..., N, N], the matrices it mixes with."""

    def reference_in(self, x: Tensor, batch: PackedBatch) -> tuple[Tensor, Tensor]:
        """`reference` of the only sequence of `batch`: the same, unless more than its length decides."""
        return self.reference(x)

    @abstractmethod
    def coverage(self, lengths: Sequence[int]) -> dict[str, int]:
        """Which attention really runs: its name -> number of tokens, for sequences of these lengths."""

    def covered(self, batch: PackedBatch) -> dict[str, int]:
        """`coverage` of a batch: the same, unless more than lengths decides."""
        return self.coverage(batch.lengths)

    @abstractmethod
    def flops(self, length: int) -> float:
        """Floating-point operations of the mixing of a sequence, forward, projections of q, k, v and output apart."""

    def padded(self, x: Tensor, real: Tensor) -> Tensor:
        """The same function over a padded batch, in operators that a graph knows; inference alone.

        x [B, N, hidden], real bool [B, N], tokens before padding -> [B, N, hidden], anything where there is no token.
        """
        raise NotImplementedError

    def prepare_padded(self) -> None:
        """Tables that `padded` needs; UserError where it cannot compute what `forward` does."""
        if type(self).padded is SelfAttention.padded:
            raise UserError(f"{type(self).__name__} has no padded form, which an exported graph needs")

    def packed_heads(self, x: Tensor, batch: PackedBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value of packed tokens, [T, hidden] -> [T, H, D] each: what `mix` starts from."""
        query, key, value = map(self.heads, through(x, self.query, self.key, self.value))
        if self.rotary_base is not None:
            query, key = (self.packed_turned(heads, batch) for heads in (query, key))
        return query, key, value

    def is_short(self, batch: PackedBatch, dtype: torch.dtype, gradients: bool | None = None) -> bool:
        """Whether `mix_short` is the way to compute `mix` where each token sees its whole sequence."""
        gradients = torch.is_grad_enabled() if gradients is None else gradients
        return short.is_short(batch, dtype, gradients) and not self.dropping

    def mix_short(self, x: Tensor, batch: PackedBatch) -> Tensor:
        """x [T, hidden] -> [T, H * D]: every token of a short sequence with its whole sequence."""
        query, key, value = map(self.heads, through(x, self.query, self.key, self.value))
        vector, angles, n = self.relative_vector(), None, batch.longest
        bias = None if vector is None else tile_bias(vector.float(), 0, n, 0, n)
        if self.rotary_base is not None:
            angles = self._angles_of_positions(batch)
        return short.attend(query, key, value, batch, bias, angles).flatten(1)

    def packed_turned(self, heads: Tensor, batch: PackedBatch) -> Tensor:
        """Queries or keys of packed tokens [T, H, D], turned as rotary positions are."""
        return Turn.apply(heads, *self._angles(batch))  # type: ignore[no-untyped-call, no-any-return]

    def row_heads_of(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same of one sequence, [N, hidden] -> [H, N, D] each: what references start from."""
        query, key, value = (self.row_heads(project, x) for project in (self.query, self.key, self.value))
        return self.turned(query), self.turned(key), value

    def padded_heads_of(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same of a padded batch, [B, N, hidden] -> [B, H, N, D] each."""
        query, key, value = (self.padded_heads(project, x) for project in (self.query, self.key, self.value))
        return self.turned(query), self.turned(key), value

    def turned(self, heads: Tensor) -> Tensor:
        """Queries or keys [..., N, D] of positions 0 to N - 1 turned as rotary positions are, if the model has them."""
        if self.rotary_base is None:
            return heads
        positions = torch.arange(heads.shape[-2], device=heads.device)
        return turn(heads, *cosines_and_sines(positions, self.head_dim, self.rotary_base))

    def _angles(self, batch: PackedBatch) -> tuple[Tensor, Tensor]:
        """Cosines and sines of every packed token, [T, 1, D / 2]; layers of one base share them."""

        def make() -> tuple[Tensor, Tensor]:
            places = torch.cat([torch.arange(length) for length in (0, *batch.lengths)])
            table = self._angles_of_positions(batch)
            cosines, sines = (to_device(part[places].unsqueeze(1), batch.device) for part in table)
            return cosines, sines

        return batch.plan(("rotary", self.rotary_base, self.head_dim), make)  # type: ignore[no-any-return]

    def _angles_of_positions(self, batch: PackedBatch) -> tuple[Tensor, Tensor]:
        """The same of the positions 0 to N - 1, on the processor, [N, D / 2]: N is the longest sequence's."""
        base, dim = self.rotary_base, self.head_dim
        assert base is not None
        return batch.plan(  # type: ignore[no-any-return]
            ("rotary positions", base, dim), lambda: cosines_and_sines(torch.arange(batch.longest), dim, base)
        )

    @property
    def relative(self) -> RelativeBias | None:
        """What scores get added by the offset of a key; the model's layers share it."""
        return self._shared[0]

    @property
    def has_relative(self) -> bool:
        return self.relative is not None

    def relative_vector(self) -> Tensor | None:
        """The same as a vector over offsets, [H, offsets] with offset 0 in the middle; None: nothing."""
        return None if self.relative is None else self.relative()

    def row_bias(self, length: int) -> Tensor | float:
        """The same for every pair of one sequence, [H, N, N]: what references add to their scores."""
        vector = self.relative_vector()
        if vector is None:
            return 0.0
        place = torch.arange(length, device=vector.device)
        return along(vector, place - place[:, None])

    def padded_heads(self, linear: nn.Linear, x: Tensor) -> Tensor:
        """[B, N, hidden] -> [B, H, N, D]."""
        return self.heads(linear(x)).transpose(1, 2)

    def heads(self, x: Tensor) -> Tensor:
        """[..., H * D] -> [..., H, D]."""
        return x.unflatten(-1, (self.num_attention_heads, self.head_dim))

    def row_heads(self, linear: nn.Linear, x: Tensor) -> Tensor:
        """One sequence projected, [N, hidden] -> [H, N, D]: what references start from."""
        return self.heads(linear(x)).transpose(0, 1)

    def row_output(self, mixed: Tensor) -> Tensor:
        """[H, N, D] -> [N, hidden]: what references end with."""
        return self.output(mixed.transpose(0, 1).flatten(1))
