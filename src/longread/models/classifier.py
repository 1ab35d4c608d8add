"""One encoder for all mechanisms: embeddings, blocks, classifier. What differs between families is a field.

Shapes: B sequences, N slots of a padded input, T tokens of all sequences, H heads. Inside, a batch is packed: every
token-wise layer sees [T, hidden] and no padding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from longread.attention import ATTENTIONS, SelfAttention
from longread.data.config import Cut
from longread.models.config import ACTIVATIONS, IN_PLACE, ClassifierConfig
from longread.models.decision import Decision
from longread.ops.dropout import Dropout, Noise
from longread.ops.offsets import RelativeBias
from longread.ops.packed import PackedBatch, to_device


def _norm(config: ClassifierConfig, width: int) -> nn.LayerNorm:
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
        self.norm = _norm(config, width)
        self.dropout = Dropout(config.dropout_of("embedding"))
        self.project = nn.Linear(width, config.hidden_size) if width != config.hidden_size else None
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
        self.attention_norm = nn.Identity() if normalised else _norm(config, config.hidden_size)
        self.gated = config.gated
        width = config.width_of_intermediate  # with a gate, `up` has what is activated and then the gate
        self.up = nn.Linear(config.hidden_size, width * (2 if self.gated else 1), bias=config.feed_forward_bias)
        self.down = nn.Linear(width, config.hidden_size, bias=config.feed_forward_bias)
        self.activation = config.hidden_act  # by name: torch's functions cannot be pickled
        self.output_norm = _norm(config, config.hidden_size)
        self.attention_output_dropout = Dropout(config.dropout_of("attention_output"))
        self.inner_dropout = Dropout(config.dropout if config.dropout_inside else 0.0)
        self.dropout = Dropout(0.0 if config.dropout_inside else config.dropout)

    def forward(self, x: Tensor, batch: PackedBatch) -> Tensor:
        noise = batch.noise
        if self.pre:
            x = x + self.attention_output_dropout(self.attention(self.attention_norm(x), batch), noise)
            return x + self.dropout(self.feed_forward(self.output_norm(x), noise), noise)
        x = self.attention_norm(x + self.attention_output_dropout(self.attention(x, batch), noise))
        return self.output_norm(x + self.dropout(self.feed_forward(x, noise), noise))

    def feed_forward(self, x: Tensor, noise: Noise | None = None) -> Tensor:
        hidden = self.up(x)
        hidden, gate = hidden.chunk(2, -1) if self.gated else (hidden, None)
        if torch.is_grad_enabled():
            hidden = ACTIVATIONS[self.activation](hidden)
            hidden = hidden if gate is None else hidden * gate
        else:  # the widest tensor of a layer, once and not twice
            hidden = IN_PLACE[self.activation](hidden)
            hidden = hidden if gate is None else hidden.mul_(gate)
        return self.down(self.inner_dropout(hidden, noise))


class Head(nn.Module):
    """Pooled sequences -> logits: linear, or dense + activation (+ norm) + linear."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.dense = nn.Linear(hidden, hidden, bias=config.head_bias) if config.head_activation else None
        self.norm = _norm(config, hidden) if config.head_activation and config.head_norm else None
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
        return self.classifier(self.dropout(pooled, noise, sequences=True))


class Classifier(nn.Module):
    """A text classifier: `model(input_ids, mask)` -> logits. `build` and `from_pretrained` make one."""

    tokenizer_file: Path | None = None  # tokenizer.json of the checkpoint it came from
    loading: Any = None  # a checkpoint.Loading: how its weights came about; None: drawn at random
    decision = Decision()  # chosen on held-out rows behind the training
    cut = Cut()  # what it was trained to read of a long text

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.relative_bias = (
            RelativeBias(config.relative_buckets, config.num_attention_heads, config.relative_max_distance)
            if config.relative_buckets
            else None
        )
        self.blocks = nn.ModuleList(
            Block(config, layer, self.relative_bias) for layer in range(config.num_hidden_layers)
        )
        self.final_norm = _norm(config, config.hidden_size) if config.norm_position == "pre" else None
        self.score = nn.Linear(config.hidden_size, 1) if config.pooling == "positions" else None
        self.head = Head(config)
        for site, module in enumerate(m for m in self.modules() if isinstance(m, Dropout)):
            module.site = site
        self.apply(self._initialise)

    def _initialise(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def forward(
        self,
        input_ids: Tensor,
        mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        global_mask: Tensor | None = None,
    ) -> Tensor:
        """input_ids int64 [B, N], mask bool [B, N] (True = token; None: all are) -> logits [B, num_labels].

        Slots without a token do not exist for the model: positions count tokens, wherever they lie in the sequence. One
        without any token has logits 0 and gives no gradient. global_mask bool [B, N]: the global tokens of
        a mechanism that has them (None: as its settings say). ValueError for shapes that do not fit, sequences longer
        than max_length, and global tokens that would be all tokens of a sequence. The masks are read once, before the
        pass.
        """
        mask = self._checked_mask(input_ids, mask, token_type_ids, global_mask)
        chooser = self._chooser
        if global_mask is not None and chooser is None:
            raise ValueError(f"{self.config.attention} attention has no global tokens; leave global_mask out")
        if global_mask is None and token_type_ids is not None and chooser is not None:
            global_mask = chooser.global_tokens_of(token_type_ids, mask)
        kept, *flags = torch.stack([mask] if global_mask is None else [mask, global_mask.bool()]).cpu()
        order = torch.argsort(kept.sum(1), stable=True)
        kept = kept[order]
        lengths = kept.sum(1).tolist()
        chosen = None
        if flags:
            chosen = [own[there].nonzero().flatten().tolist() for own, there in zip(flags[0][order], kept, strict=True)]
        device = input_ids.device
        slots = (torch.arange(input_ids.numel()).view(input_ids.shape))[order][kept]
        slots, order = to_device(slots, device), to_device(order, device)
        types = None if token_type_ids is None else token_type_ids.flatten().index_select(0, slots)
        batch = PackedBatch(lengths, device, chosen)
        logits = self.classify(input_ids.flatten().index_select(0, slots), batch, types)
        return torch.zeros_like(logits).index_copy(0, order, logits)

    def classify(self, tokens: Tensor, batch: PackedBatch, token_types: Tensor | None = None) -> Tensor:
        """The packed entrance: tokens int64 [T] of all sequences -> logits [batch.count, num_labels].

        token_types int64 [T], None: all are 0. A sequence without a token has logits 0 and gives no gradient.
        """
        if not batch.lengths:  # a loss of nothing has a gradient too: zero
            none = torch.zeros(batch.count, self.config.num_labels, device=tokens.device)
            return none + 0 * self.head.classifier.bias
        logits = self.head(self.pool(self.encode(tokens, batch, token_types), batch), batch.noise)
        if batch.filled is None:
            return logits
        return logits.new_zeros(batch.count, logits.shape[1]).index_copy(0, batch.filled, logits)

    def encode(self, tokens: Tensor, batch: PackedBatch, token_types: Tensor | None = None) -> Tensor:
        """tokens [T] -> the last hidden states [T, hidden]; no other is kept."""
        for state in self._states(tokens, batch, token_types):
            last = state
        return last

    def hidden_states(self, tokens: Tensor, batch: PackedBatch, token_types: Tensor | None = None) -> list[Tensor]:
        """The embedding's output and each block's, [T, hidden] each; the last one normalised."""
        return list(self._states(tokens, batch, token_types))

    def _states(self, tokens: Tensor, batch: PackedBatch, token_types: Tensor | None) -> Iterator[Tensor]:
        if batch.longest > self.config.max_length:
            raise ValueError(
                f"a row has {batch.longest} tokens and the model {self.config.max_length} positions; "
                f"cut the text to max_length={self.config.max_length}, or convert the model to a longer one"
            )
        if token_types is not None and self._chooser is not None and not batch.knows_globals:
            batch = _with_global_tokens(batch, token_types, self._chooser)
        x = self.embeddings(tokens, batch, token_types)
        for block in self.blocks:
            yield x
            if self.config.checkpointing and torch.is_grad_enabled():
                x = torch.utils.checkpoint.checkpoint(block, x, batch, use_reentrant=False)
            else:
                x = block(x, batch)
        yield x if self.final_norm is None else self.final_norm(x)

    @property
    def _chooser(self) -> SelfAttention | None:
        """The first layer that has global tokens and says which; None: there is none."""
        layers: list[Any] = [block.attention for block in self.blocks]
        return next((layer for layer in layers if layer.has_global_tokens), None)

    def plan(self, batch: PackedBatch, dtype: torch.dtype | None = None, gradients: bool = False) -> None:
        """Makes every index and mask of a pass over `batch` ahead, on the processor.

        dtype: what attention computes in (None: the weights' own); gradients: whether a backward pass follows.
        """
        _ = batch.positions, batch.filled
        if self.config.pooling == "first":
            _ = batch.first_tokens
        else:
            _ = batch.sequence_of_token, batch.seqlens
        dtype = self.embeddings.word.weight.dtype if dtype is None else dtype
        for block in self.blocks:
            block.attention.planned(batch, dtype, gradients)  # type: ignore[operator, union-attr]

    def pool(self, x: Tensor, batch: PackedBatch) -> Tensor:
        """[T, hidden] -> [B, hidden]: the first token of each sequence, or the mean of its tokens.

        With pooling "positions" [B, max_length]: one number from each token, zero where a sequence has none.
        """
        if self.config.pooling == "first":
            return x.index_select(0, batch.first_tokens)
        if self.score is not None:
            scores = self.score(x).squeeze(1)
            spread = scores.new_zeros(len(batch.lengths), self.config.max_length)
            return spread.index_put((batch.sequence_of_token, batch.positions), scores)
        wide = torch.promote_types(x.dtype, torch.float32)
        sums = x.new_zeros(len(batch.lengths), x.shape[1], dtype=wide)
        sums = sums.index_add(0, batch.sequence_of_token, x.to(wide))
        return (sums / batch.seqlens[:, None]).to(x.dtype)

    def _checked_mask(
        self, input_ids: Tensor, mask: Tensor | None, token_type_ids: Tensor | None, global_mask: Tensor | None
    ) -> Tensor:
        if input_ids.dim() != 2:
            raise ValueError(f"input_ids has shape {tuple(input_ids.shape)}; it must be [sequences, tokens]")
        if mask is None:
            mask = torch.ones_like(input_ids, dtype=torch.bool)
        for name, tensor in (("mask", mask), ("token_type_ids", token_type_ids), ("global_mask", global_mask)):
            if tensor is not None and tensor.shape != input_ids.shape:
                raise ValueError(
                    f"{name} has shape {tuple(tensor.shape)}, input_ids {tuple(input_ids.shape)}; they must be equal"
                )
        return mask.bool()

    @property
    def num_parameters(self) -> int:
        return sum(p.numel() for p in self.parameters())


def _with_global_tokens(batch: PackedBatch, token_types: Tensor, chooser: SelfAttention) -> PackedBatch:
    """The batch with the global tokens that types [T] ask for, where its maker knew nothing of them."""
    chosen = []
    for own in token_types.split(batch.lengths):
        flags = chooser.global_tokens_of(own[None], torch.ones_like(own[None], dtype=torch.bool))
        if flags is None:
            return batch
        chosen.append(flags[0].nonzero().flatten().tolist())
    known = PackedBatch(batch.lengths, batch.device, chosen)
    known.noise = batch.noise
    return known


def build(attention: str = "dense", **config: Any) -> Classifier:
    """A randomly initialised encoder. `config`: fields of ClassifierConfig and of the mechanism's `Options`.

    The weights are a function of `seed` alone; torch's own random state is left as it was.
    """
    settings = ClassifierConfig.from_dict({"attention": attention} | config)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(settings.seed)  # torch.manual_seed would seed the accelerators too
        return Classifier(settings)
