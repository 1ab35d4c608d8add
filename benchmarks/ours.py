"""This project's side of a comparison: its model on packed batches, its own training step."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch

from longread.attention import ATTENTIONS
from longread.config import RunConfig
from longread.data.dataset import Prepared, Split
from longread.data.tokenizer import Encoded
from longread.inference.evaluate import predict_split
from longread.models.checkpoint import from_pretrained
from longread.models.classifier import Classifier, build
from longread.ops.linear import keep_bfloat16
from longread.study.timing import model_flops
from longread.training.classification import classification_trainer
from longread.training.resolve import resolve_machine

DROPOUT = 0.1


class Side:
    """`work` once is what gets timed."""

    def __init__(self, row: dict[str, Any], ids: list[np.ndarray], labels: np.ndarray, checkpoint: str | None) -> None:
        attention = row["attention"] if row.get("own_attention") is None else row["own_attention"]
        self.model = self._model(row, attention, checkpoint)
        self.training = row["phase"] == "training"
        offsets = np.concatenate([[0], np.cumsum([len(i) for i in ids])]).astype(np.int64)
        cut = np.zeros(len(ids), dtype=np.bool_)
        encoded = Encoded(np.concatenate(ids).astype(np.int32), offsets, None, cut)
        self.split = Split(encoded, labels, np.arange(len(ids)), "given", "given", ("0", "1"), "")
        config = RunConfig(
            attention=attention, batch_size=row["batch"], epochs=1, learning_rate=1e-5, precision=row["precision"],
            dropout=DROPOUT,
        )  # fmt: skip
        self.config = resolve_machine(config, row["shape"]["hidden_size"])
        self.device = torch.device("cpu")
        if not self.training and row["precision"] == "bfloat16":
            keep_bfloat16(self.model)  # as `longread.load` does
        self.work: Callable[[], None] = self._train() if self.training else self._infer

    @staticmethod
    def _model(row: dict[str, Any], attention: str, checkpoint: str | None) -> Classifier:
        if checkpoint is not None:
            return from_pretrained(checkpoint, dropout=DROPOUT, **row["options"])
        known = set(ATTENTIONS[attention].Options.__dataclass_fields__)
        own = {k: v for k, v in row["options"].items() if k in known}
        return build(
            attention, vocab_size=row["vocab_size"], max_length=4096, dropout=DROPOUT, **row["shape"], **own
        ).eval()

    def logits(self) -> np.ndarray:
        return np.log(self._predictions("float32") + 1e-30)

    def _predictions(self, precision: str) -> np.ndarray:
        tokens = self.config.tokens_per_micro_batch
        assert tokens
        done = predict_split(self.model, self.split, tokens=tokens, device=self.device, precision=precision)
        return done.answers

    def _infer(self) -> None:
        self._predictions(self.config.precision)

    def _train(self) -> Callable[[], None]:
        prepared = Prepared(self.split, self.split, None, None, ())  # type: ignore[arg-type]
        trainer = classification_trainer(self.model.train(), prepared, self.config, Path("."), lambda event: None)
        trainer.steps = 10**9
        batches = [np.arange(i, min(i + self.config.batch_size, len(self.split)))
                   for i in range(0, len(self.split), self.config.batch_size)]  # fmt: skip

        def epoch() -> None:
            with closing(trainer.gradients.planned(batches, trainer.step)) as planned:
                for batch in batches:
                    trainer._step(batch, planned)

        return epoch

    def flops(self) -> float:
        forward = sum(model_flops(self.model, int(n)) for n in self.split.lengths)
        return forward * (3 if self.training else 1)
