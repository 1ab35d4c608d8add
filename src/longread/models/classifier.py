"""One encoder for all mechanisms: embeddings, blocks, classifier. What differs between families is a field.

Shapes: B sequences, N slots of a padded input, T tokens of all sequences, H heads. Inside, a batch is packed: every
token-wise layer sees [T, hidden] and no padding.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from longread.attention import SelfAttention
from longread.data.config import Cut
from longread.models.config import ClassifierConfig
from longread.models.decision import Decision
from longread.models.layers import Block, Embeddings, Head, MaskedHead, norm
from longread.ops.dropout import Dropout
from longread.ops.packed import PackedBatch, to_device
from longread.ops.relative_bias import RelativeBias


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
        self.final_norm = norm(config, config.hidden_size) if config.norm_position == "pre" else None
        self.score = nn.Linear(config.hidden_size, 1) if config.pooling == "positions" else None
        self.head = Head(config)
        self.masked_head: MaskedHead | None = None  # of pretraining alone (masked.py)
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
        logits = self.head(self._pooled(tokens, batch, token_types), batch.noise)
        if batch.filled is None:
            return logits
        return logits.new_zeros(batch.count, logits.shape[1]).index_copy(0, batch.filled, logits)

    def encode(self, tokens: Tensor, batch: PackedBatch, token_types: Tensor | None = None) -> Tensor:
        """tokens [T] -> the last hidden states [T, hidden]; no other is kept."""
        return _last(self._states(tokens, batch, token_types))

    def guess(self, tokens: Tensor, batch: PackedBatch, token_types: Tensor | None, places: Tensor) -> Tensor:
        """The last hidden states [M, hidden] at the `places` int64 [M] of tokens [T] that are to be guessed."""
        return self.encode(tokens, batch, token_types).index_select(0, places)

    def _pooled(self, tokens: Tensor, batch: PackedBatch, token_types: Tensor | None) -> Tensor:
        """`pool` of the last hidden states. Of a first token alone the last block computes nothing that is not read."""
        if self.config.pooling == "first" and len(self.blocks) > 0:
            return _last(self._states(tokens, batch, token_types, first=True))
        return self.pool(self.encode(tokens, batch, token_types), batch)

    def hidden_states(self, tokens: Tensor, batch: PackedBatch, token_types: Tensor | None = None) -> list[Tensor]:
        """The embedding's output and each block's, [T, hidden] each; the last one normalised."""
        return list(self._states(tokens, batch, token_types))

    def _states(
        self, tokens: Tensor, batch: PackedBatch, token_types: Tensor | None, first: bool = False
    ) -> Iterator[Tensor]:
        """first: the last one is that of the first token of each sequence, [B, hidden]."""
        if batch.longest > self.config.max_length:
            raise ValueError(
                f"a row has {batch.longest} tokens and the model {self.config.max_length} positions; "
                f"cut the text to max_length={self.config.max_length}, or convert the model to a longer one"
            )
        if token_types is not None and self._chooser is not None and not batch.knows_globals:
            batch = _with_global_tokens(batch, token_types, self._chooser)
        x = self.embeddings(tokens, batch, token_types)
        for layer, block in enumerate(self.blocks, 1):
            yield x
            last = first and layer == len(self.blocks)
            if self.config.checkpointing and torch.is_grad_enabled():
                x = torch.utils.checkpoint.checkpoint(block, x, batch, last, use_reentrant=False)
            else:
                x = block(x, batch, last)
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


def _last(states: Iterator[Tensor]) -> Tensor:
    for state in states:
        last = state
    return last


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
