"""A trained checkpoint in use: labels for texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from longread.data.dataset import Split
from longread.data.labels import placeholders
from longread.data.tokenizer import Tokenizer, load_tokenizer
from longread.errors import UserError
from longread.inference.evaluate import predict_split
from longread.models.checkpoint import from_pretrained
from longread.models.classifier import Classifier
from longread.system import runtime


@dataclass(frozen=True)
class Prediction:
    """`label` and the probability of each label, by name."""

    label: str
    probabilities: dict[str, float]
    truncated: bool = False  # the text was longer than the model reads; its end was not seen


@dataclass
class Predictor:
    """What `longread.load` returns."""

    model: Classifier
    tokenizer: Tokenizer
    label_names: tuple[str, ...]
    source: str
    tokens_per_micro_batch: int = 8192

    @property
    def max_length(self) -> int:
        """Tokens of the longest text that is read whole."""
        return self.tokenizer.limit(self.model.config.max_length)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def predict(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> list[Prediction]:
        """A prediction for each text (with its partner from `pairs`, for tasks that compare two).

        UserError where `texts` is one string, or its length differs from that of `pairs`.
        """
        if isinstance(texts, str):
            raise UserError("predict wants a list of texts; write predict([text])")
        if pairs is not None and len(pairs) != len(texts):
            raise UserError(f"{len(texts)} texts and {len(pairs)} partners; give each text one")
        if not texts:
            return []
        encoded = self.tokenizer.encode(texts, pairs, self.max_length)
        none = np.zeros(len(texts), dtype=np.int64)
        split = Split(encoded, none, none, "given", "given", self.label_names, "")
        found = predict_split(self.model, split, tokens=self.tokens_per_micro_batch, device=self.device)
        return [
            Prediction(
                self.label_names[int(row.argmax())],
                {name: float(value) for name, value in zip(self.label_names, row, strict=True)},
                bool(cut),
            )
            for row, cut in zip(found.probabilities, encoded.truncated, strict=True)
        ]


def load(place: str | Path, device: str = "auto", **overrides: Any) -> Predictor:
    """From a run's folder, its checkpoint folder, or any checkpoint that brings a tokenizer.

    overrides: as in `from_pretrained`. UserError for a place without a model or a tokenizer.
    """
    path = Path(place)
    if (path / "checkpoint").is_dir():
        path = path / "checkpoint"
    elif (path / "run.json").is_file():
        raise UserError(f"{path}: this run has no checkpoint (a baseline, or a run that failed); choose another one")
    model = from_pretrained(path if path.exists() else str(place), **overrides)
    file = model.tokenizer_file
    if file is None:
        raise UserError(f"{place}: the checkpoint brings no tokenizer; put its tokenizer.json beside config.json")
    names = model.config.label_names or placeholders(model.config.num_labels)
    return Predictor(model.to(runtime.pick_device(device)).eval(), load_tokenizer(file), names, str(place))
