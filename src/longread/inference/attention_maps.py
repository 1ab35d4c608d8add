"""The matrices A of one text, small enough for a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from longread.data.dataset import Prepared
from longread.models.classifier import Classifier
from longread.ops.packed import PackedBatch

CELLS = 64
HEADS = 4  # drawn one by one; the mean is over all
LEVELS = 1000  # a value is stored in thousandths of the largest
LONGEST_TEXT = 1024


@torch.no_grad()
def attention_map(model: Classifier, data: Prepared) -> dict[str, Any]:
    """A of the first layer for the longest evaluation text that has at most LONGEST_TEXT tokens, as `stored` has it.

    A longer text than CELLS tokens is shown in cells, each the mean of a square of A.
    """
    split = data.evaluation
    whole = np.where(split.lengths <= LONGEST_TEXT, split.lengths, 0) + (split.lengths > LONGEST_TEXT)
    row = int(np.argmax(whole))
    first = split.sequences_of(np.array([row]))[1][0]  # of a text in chunks the first
    begin = split.encoded.offsets[row]
    there = slice(begin, begin + min(first, LONGEST_TEXT))
    tokens = split.encoded.tokens[there].astype(np.int64)
    if not model.blocks:
        return {"tokens": [], "layer": 0, "heads": [], "note": "the model has no layer"}
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    block: Any = model.blocks[0]
    types = None
    if split.encoded.types is not None:
        own = split.encoded.types[there].astype(np.int64)
        types = torch.from_numpy(own).to(device)
    rows = PackedBatch((len(tokens),), device, first_text_lengths=split.first_texts(np.array([row])).tolist())
    x = model.embeddings(torch.from_numpy(tokens).to(device), rows, types)
    _, matrix = block.attention.reference_in(block.attention_norm(x) if block.pre else x, rows)
    model.train(was_training)
    if matrix.dim() == 4:  # Longformer's local and global matrices
        matrix = matrix.sum(0)
    length = len(tokens)
    if length > CELLS:
        matrix = F.adaptive_avg_pool2d(matrix[:, None], CELLS)[:, 0]
    note = f"layer 1, a text of {length} tokens" + (f" in {CELLS} x {CELLS} cells" if length > CELLS else "")
    return {
        "tokens": data.tokenizer.pieces(tokens.tolist()) if length <= CELLS else [],
        "layer": 0,
        "row": int(split.rows[row]),
        "length": length,
        "note": note,
    } | stored(matrix.cpu().numpy())


def stored(matrix: np.ndarray) -> dict[str, Any]:
    """`mean` [K, K] of all heads and the first HEADS `heads` [H, K, K] as integers, times `scale` their values.

    matrix: A of every head [H, K, K].
    """
    matrix = np.nan_to_num(matrix.astype(np.float64))
    scale = float(np.abs(matrix).max(initial=0.0)) / LEVELS or 1.0
    return {
        "num_heads": len(matrix),
        "scale": scale,
        "mean": np.rint(matrix.mean(axis=0) / scale).astype(int).tolist(),
        "heads": np.rint(matrix[:HEADS] / scale).astype(int).tolist(),
    }
