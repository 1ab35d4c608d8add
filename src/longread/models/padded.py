"""A classifier over padded batches, made of plain operators: what `longread export` turns into a graph.

The packed forward pass decides in Python which sequences are mixed together; a graph cannot. Here every mechanism
computes the same function for a whole padded batch at once, with the number of sequences and tokens left open.
Inference only: no dropout, and slower than the packed pass on batches of mixed lengths.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from longread.errors import UserError
from longread.models.classifier import Classifier


class PaddedClassifier(nn.Module):
    """`forward(input_ids, attention_mask, token_type_ids)` gives the logits of the classifier it wraps."""

    def __init__(self, model: Classifier) -> None:
        """UserError where some part of the model has no padded form."""
        super().__init__()
        if model.config.pooling == "positions":
            raise UserError('pooling "positions" cannot be exported; it is there to compare with, train with "mean"')
        for block in model.blocks:
            block.attention.prepare_padded()  # type: ignore[operator, union-attr]
        self.model = model.eval()

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """int64 [B, N] each (mask: 1 = token; None for types: all are 0) -> logits [B, num_labels].

        Padding may lie anywhere, as in `Classifier.forward`. A sequence without any token has logits 0.
        """
        model, config = self.model, self.model.config
        real = attention_mask.bool()
        length = input_ids.shape[1]
        place = torch.arange(length, device=input_ids.device)
        # Tokens move before the padding, in their order: blocks and windows are counted in tokens.
        order = torch.sort(torch.where(real, place, place + length), dim=1).indices
        input_ids = input_ids.gather(1, order)
        tokens = real.sum(1, keepdim=True)
        real = place < tokens
        x = model.embeddings.word(input_ids)
        if config.embedding_scale != 1:
            x = x * config.embedding_scale
        table = model.embeddings.token_type
        if table is not None:
            x = x + (table.weight[0] if token_type_ids is None else table(token_type_ids.gather(1, order)))
        if model.embeddings.position is not None:
            x = x + model.embeddings.position.weight[place + config.position_offset]
        x = model.embeddings.norm(x)
        x = x if model.embeddings.project is None else model.embeddings.project(x)
        for block in model.blocks:
            # Of the last block's tokens, pooling "first" reads one.
            x = self._block(block, x, real, config.pooling == "first" and block is model.blocks[-1])
        if model.final_norm is not None:
            x = model.final_norm(x)
        if config.pooling == "first":
            pooled = x[:, 0]
        else:
            weight = real.to(x.dtype) / tokens.clamp(min=1).to(x.dtype)
            pooled = torch.einsum("bn,bnh->bh", weight, x)
        return model.head(pooled) * (tokens > 0)

    @staticmethod
    def _block(block: nn.Module, x: Tensor, real: Tensor, first: bool) -> Tensor:
        """`Block.forward` with the padded attention; with `first` [B, 1, hidden]."""
        mixed = block.attention.padded(block.attention_norm(x) if block.pre else x, real)  # type: ignore[operator, union-attr]
        x, mixed = (x[:, :1], mixed[:, :1]) if first else (x, mixed)
        if block.pre:
            x = x + mixed
            return x + block.feed_forward(block.output_norm(x))  # type: ignore[operator]
        x = block.attention_norm(x + mixed)  # type: ignore[operator]
        return block.output_norm(x + block.feed_forward(x))  # type: ignore[operator, no-any-return]
