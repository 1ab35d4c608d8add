"""What the encoder is made of: embeddings, blocks, and the head that makes logits of pooled sequences.

Shapes: B sequences, T tokens of all of them, packed without padding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from longread.attention import ATTENTIONS
from longread.models.config import ACTIVATIONS, IN_PLACE, ClassifierConfig
from longread.ops.dropout import Dropout, Noise
from longread.ops.linear import Linear
from longread.ops.packed import PackedBatch
from longread.ops.relative_bias import RelativeBias

# Numbers of a feed-forward layer's widest tensor that are made at once without gradients on a processor.
PIECE = 3 << 18


def norm(config: ClassifierConfig, width: int) -> nn.LayerNorm:
    return nn.LayerNorm(width, eps=config.layer_norm_eps, bias=config.norm_bias)


class Embeddings(nn.Module):
    """Word + position (+ token type), normalised."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width_of_embedding
        self.word = nn.Embedding(config.vocab_size, width)
        learned = config.position_kind == "learned"
        self.position = nn.Embedding(config.max_length + config.position_offset, width) if learned else None
        self.token_type = nn.Embedding(config.type_vocab_size, width) if config.type_vocab_size else None
        self.norm = norm(config, width)
        self.dropout = Dropout(config.dropout_of("embedding"))
        self.project = Linear(width, config.hidden_size) if width != config.hidden_size else None
        self.lookup: Callable[[Tensor], Tensor] | None = None  # a training loop's own; None: the plain one

    def forward(self, tokens: Tensor, batch: PackedBatch, token_types: Tensor | None) -> Tensor:
        """tokens [T] -> [T, hidden]."""
        x = (self.lookup or self.word)(tokens)
        if self.config.embedding_scale != 1:
            x = x * self.config.embedding_scale
        if self.token_type is not None:
            # Without token types all are of type 0, as in Hugging Face's models.
            x = x + (self.token_type.weight[0] if token_types is None else self.token_type(token_types))
        if self.position is not None:
            x = x + self.position(batch.positions + self.config.position_offset)
        noise = batch.noise
        x = self.norm(self.dropout(x, noise)) if self.config.dropout_before_norm else self.dropout(self.norm(x), noise)
        return x if self.project is None else self.project(x)


class Block(nn.Module):
    """Attention and feed-forward, each with its norm and residual: before ("pre") or behind it ("post", as in BERT)."""

    def __init__(self, config: ClassifierConfig, layer: int, relative: RelativeBias | None = None) -> None:
        super().__init__()
        self.pre = config.norm_position == "pre"
        mechanism = config.attention_of(layer)
        self.attention = ATTENTIONS[mechanism](
            hidden_size=config.hidden_size,
            num_attention_heads=config.num_attention_heads,
            head_dim=config.width_of_head,
            max_length=config.max_length,
            options=config.options_of(mechanism),
            layer=layer,
            seed=config.seed,
            dropout=config.attention_dropout,
            bias=config.attention_bias,
            rotary_base=config.rotary_base_of(layer),
            relative=relative if mechanism in config.bias_layers else None,
        )
        normalised = self.pre and layer == 0 and not config.first_attention_norm  # by the embedding
        self.attention_norm = nn.Identity() if normalised else norm(config, config.hidden_size)
        self.gated = config.gated
        width = config.width_of_intermediate  # with a gate, `up` has what is activated and then the gate
        self.up = Linear(config.hidden_size, width * (2 if self.gated else 1), bias=config.feed_forward_bias)
        self.up.parts = 2 if self.gated else 1
        self.down = Linear(width, config.hidden_size, bias=config.feed_forward_bias)
        self.activation = config.hidden_act  # by name: torch's functions cannot be pickled
        self.output_norm = norm(config, config.hidden_size)
        self.attention_output_dropout = Dropout(config.dropout_of("attention_output"))
        self.inner_dropout = Dropout(config.dropout if config.dropout_inside else 0.0)
        self.dropout = Dropout(0.0 if config.dropout_inside else config.dropout)

    def forward(self, x: Tensor, batch: PackedBatch, first: bool = False) -> Tensor:
        """x [T, hidden] -> [T, hidden]; with `first` that of the first token of each sequence alone, [B, hidden]."""
        noise, rows = batch.noise, batch.offsets[:-1] if first else None
        mixed = self.attention(self.attention_norm(x) if self.pre else x, batch, first)
        x = x.index_select(0, batch.first_tokens) if first else x
        x = x + self.attention_output_dropout(mixed, noise, rows=rows)
        x = x if self.pre else self.attention_norm(x)
        if not (torch.is_grad_enabled() or self.dropout.training or self.inner_dropout.training):
            x = self._add_feed_forward(x)
        else:
            inner = self.output_norm(x) if self.pre else x
            x = x + self.dropout(self.feed_forward(inner, noise, rows), noise, rows=rows)
        return x if self.pre else self.output_norm(x)

    def feed_forward(self, x: Tensor, noise: Noise | None = None, rows: Sequence[int] | None = None) -> Tensor:
        hidden, *gate = self._parts(self.up(x))
        hidden = ACTIVATIONS[self.activation](hidden)
        hidden = hidden * gate[0] if gate else hidden
        return self.down(self.inner_dropout(hidden, noise, rows=rows))

    def _add_feed_forward(self, x: Tensor) -> Tensor:
        """x + feed_forward(...) in the memory of x, without gradients.

        On a processor in pieces, so that the widest tensor of a layer stays in a cache; not under autocast, which would
        cast the weights for each piece.
        """
        inner = self.output_norm(x) if self.pre else x
        in_pieces = (
            x.device.type == "cpu" and not torch.is_autocast_enabled("cpu") and not torch.compiler.is_compiling()
        )
        at_once = max(1, PIECE // self.up.out_features if in_pieces else x.shape[0])
        for place, part in zip(x.split(at_once), inner.split(at_once), strict=True):
            hidden, *gate = self._activated(part)
            place.add_(self.down(hidden.mul_(gate[0]) if gate else hidden))
        return x

    def _parts(self, hidden: Tensor) -> Sequence[Tensor]:
        """What is activated, and the gate, if there is one: a single part is not cut, its gradient would be a copy."""
        return hidden.chunk(2, -1) if self.gated else (hidden,)

    def _activated(self, x: Tensor) -> Sequence[Tensor]:
        """What `up` makes of x, activated, and behind it the gate, if there is one. It gives no gradients."""
        kept = self.up.kept_parts(x, self.activation) if isinstance(self.up, Linear) else None
        if kept is not None:
            return kept
        hidden, *gate = self._parts(self.up(x))
        return [IN_PLACE[self.activation](hidden), *gate]


class MaskedHead(nn.Module):
    """Hidden states -> logits of the vocabulary: dense + activation + norm + the word embedding's table + bias.

    As BERT's cls.predictions and RoBERTa's lm_head.
    """

    def __init__(self, config: ClassifierConfig, activation: str) -> None:
        super().__init__()
        width = config.width_of_embedding
        self.dense = Linear(config.hidden_size, width, bias=config.head_bias)
        self.activation = activation
        self.norm = norm(config, width)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, x: Tensor, table: Tensor) -> Tensor:
        """x [M, hidden], table [vocabulary, width of the embedding] -> logits [M, vocabulary]."""
        return nn.functional.linear(self.norm(ACTIVATIONS[self.activation](self.dense(x))), table, self.bias)


class Head(nn.Module):
    """Pooled sequences -> logits: linear, or dense + activation (+ norm) + linear."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.dense = Linear(hidden, hidden, bias=config.head_bias) if config.head_activation else None
        self.norm = norm(config, hidden) if config.head_activation and config.head_norm else None
        self.activation = config.head_activation
        rate = config.dropout_of("classifier")
        self.dense_dropout = Dropout(rate if config.dropout_before_head else 0.0)
        self.dropout = Dropout(rate)
        width = config.max_length if config.pooling == "positions" else config.hidden_size
        self.classifier = nn.Linear(width, config.num_labels)

    def forward(self, pooled: Tensor, noise: Noise | None = None) -> Tensor:
        if self.dense is not None and self.activation is not None:
            pooled = ACTIVATIONS[self.activation](self.dense(self.dense_dropout(pooled, noise, sequences=True)))
            pooled = pooled if self.norm is None else self.norm(pooled)
        pooled = self.dropout(pooled, noise, sequences=True)
        if not torch.is_autocast_enabled(pooled.device.type):
            return self.classifier(pooled)
        # A regression's bias is the mean of its numbers: bfloat16 would round every answer to eight bits of that.
        with torch.autocast(pooled.device.type, enabled=False):
            return self.classifier(pooled.to(self.classifier.weight.dtype))
