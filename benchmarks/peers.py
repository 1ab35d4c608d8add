"""The peers' sides: transformers, performer-pytorch, linformer, each used as its documentation shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def padded(rows: list[np.ndarray], to: int | None) -> tuple[Tensor, Tensor]:
    """ids int64 [B, N] and mask bool [B, N]."""
    length = to or max(len(row) for row in rows)
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = torch.from_numpy(row)
    return ids, torch.arange(length) < torch.tensor([len(row) for row in rows])[:, None]


class Side:
    def __init__(self, row: dict[str, Any], ids: list[np.ndarray], labels: np.ndarray, checkpoint: str | None) -> None:
        self.model: nn.Module
        if row["peer"] == "transformers":
            assert checkpoint is not None
            self.model = transformers_model(checkpoint, row)
        else:
            self.model = StudyModel(row)
        self.row, self.ids = row, ids
        self.low = row["precision"] == "bfloat16"
        self.classes = torch.from_numpy(labels)
        order = np.argsort([len(i) for i in ids], kind="stable") if row["sorted"] else np.arange(len(ids))
        size = row["batch"]
        self.batches = [order[i : i + size] for i in range(0, len(order), size)]
        self.work: Callable[[], None] = self._train() if row["phase"] == "training" else self._infer
        self.model.train(row["phase"] == "training")

    @torch.inference_mode()
    def logits(self) -> np.ndarray:
        was_training = self.model.training
        self.model.eval()
        found = np.zeros((len(self.ids), 2), dtype=np.float32)
        for rows in self.batches:
            found[rows] = self._forward(rows).log_softmax(1).numpy()
        self.model.train(was_training)
        return found

    def _forward(self, rows: np.ndarray) -> Tensor:
        ids, mask = padded([self.ids[i] for i in rows], self.row["pad"])
        if self.row["peer"] != "transformers":
            return self.model(ids, mask)
        _reset(self.model)
        return self.model(input_ids=ids, attention_mask=mask.long()).logits

    def _infer(self) -> None:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, self.low):
            for rows in self.batches:
                self._forward(rows)

    def _train(self) -> Callable[[], None]:
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5, fused=True)

        def epoch() -> None:
            for rows in self.batches:
                with torch.autocast("cpu", torch.bfloat16, self.low):
                    loss = nn.functional.cross_entropy(self._forward(rows).float(), self.classes[rows])
                loss.backward()
                nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()

        return epoch


def transformers_model(checkpoint: str, row: dict[str, Any]) -> nn.Module:
    import transformers

    transformers.logging.set_verbosity_error()
    settings: dict[str, Any] = dict(row["peer_options"])
    if row["attention"] != "bigbird":  # what transformers has for BigBird is neither
        settings.setdefault("attn_implementation", "sdpa" if row["attention"] == "dense" else "eager")
    return transformers.AutoModelForSequenceClassification.from_pretrained(checkpoint, **settings).eval()


def _reset(model: nn.Module) -> None:
    """BigBird stays dense after a short batch (transformers#20031): each batch decides anew, as ours does."""
    bert = getattr(model, "bert", None)
    if hasattr(bert, "set_attention_type") and bert.attention_type != "block_sparse":
        bert.set_attention_type("block_sparse")


class StudyModel(nn.Module):
    """The older study's model: a package's encoder, and a classifier over 4,096 positions.

    Where batches are sorted by length (Performer only), the classifier takes the mean of the real tokens instead.
    """

    def __init__(self, row: dict[str, Any]) -> None:
        super().__init__()
        width, heads = row["shape"]["hidden_size"], row["shape"]["num_attention_heads"]
        self.with_mask = row["pad"] is None
        self.word = nn.Embedding(row["vocab_size"], width)
        self.position = nn.Embedding(4096, width)
        if row["peer"] == "linformer":
            from linformer import Linformer

            self.encoder: nn.Module = Linformer(dim=width, seq_len=4096, depth=1, k=128, heads=heads, dropout=0.1)
        else:
            from performer_pytorch import Performer

            self.encoder = Performer(dim=width, depth=1, heads=heads, dim_head=row["shape"]["head_dim"],
                                     ff_dropout=0.1)  # fmt: skip
        self.of_token, self.of_text = nn.Linear(width, 1), nn.Linear(4096, 2)
        self.of_mean = nn.Linear(width, 2)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.word(ids) + self.position.weight[: ids.shape[1]]
        if not self.with_mask:
            return self.of_text(self.of_token(self.encoder(x)).squeeze(-1))
        x = self.encoder(x, mask=mask)
        return self.of_mean((x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))
