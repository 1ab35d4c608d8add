"""A trained checkpoint in use: labels for texts."""

from __future__ import annotations

from collections.abc import Iterable
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
from longread.inference.origin import Origin, origin_of
from longread.models.checkpoint import from_pretrained
from longread.models.classifier import Classifier
from longread.models.loading import check_answers, check_tokenizer
from longread.system import runtime


@dataclass(frozen=True)
class Prediction:
    """`label` and the probability of each label, by name. Of an empty text both are empty, and `why` says so."""

    label: str | None
    probabilities: dict[str, float]
    truncated: bool = False  # the text was longer than the model reads; its end was not seen
    why: str | None = None  # there is no label


@dataclass
class Predictor:
    """What `longread.load` returns."""

    model: Classifier
    tokenizer: Tokenizer
    label_names: tuple[str, ...]
    source: str
    tokens_per_micro_batch: int = 8192
    origin: Origin | None = None

    @property
    def max_length(self) -> int:
        """Tokens of the longest text that is read whole."""
        return self.tokenizer.limit(self.model.config.max_length)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def predict(self, texts: Iterable[str], pairs: Iterable[str] | None = None) -> list[Prediction]:
        """A prediction for each text (with its partner from `pairs`, for tasks that compare two).

        An empty text has no label; the others are answered as if it were not there. UserError where `texts` is one
        string or holds something else than texts, where its length differs from that of `pairs`, and where a model
        that was trained on pairs is given none, or the other way round.
        """
        texts, pairs = _checked(texts, "text"), None if pairs is None else _checked(pairs, "partner")
        if pairs is not None and len(pairs) != len(texts):
            raise UserError(f"{len(texts)} texts and {len(pairs)} partners; give each text one")
        wants = self.origin.pairs if self.origin else None
        if texts and wants is not None and wants != (pairs is not None):
            raise UserError(
                f"{self.source}: trained on pairs of texts; give the second one (--pair, or two --text-columns)"
                if wants
                else f"{self.source}: trained on single texts; leave the second one out"
            )
        empty = [not text.strip() or (pairs is not None and not pairs[row].strip()) for row, text in enumerate(texts)]
        kept = [row for row, nothing in enumerate(empty) if not nothing]
        answers = [Prediction(None, {}, why="the text is empty")] * len(texts)
        if kept:
            partners = None if pairs is None else [pairs[row] for row in kept]
            for row, found in zip(kept, self._predict([texts[row] for row in kept], partners), strict=True):
                answers[row] = found
        return answers

    def _predict(self, texts: list[str], pairs: list[str] | None) -> list[Prediction]:
        encoded = self.tokenizer.encode(texts, pairs, self.max_length)
        none = np.zeros(len(texts), dtype=np.int64)
        split = Split(encoded, none, none, "given", "given", self.label_names, "")
        found = predict_split(self.model, split, tokens=self.tokens_per_micro_batch, device=self.device)
        if not np.isfinite(found.probabilities).all():
            raise UserError(f"{self.source}: its answers are not numbers (NaN); the weights are damaged")
        return [
            Prediction(
                self.label_names[int(row.argmax())],
                {name: float(value) for name, value in zip(self.label_names, row, strict=True)},
                bool(cut),
            )
            for row, cut in zip(found.probabilities, encoded.truncated, strict=True)
        ]


def _checked(texts: Iterable[str], what: str) -> list[str]:
    """A list, from a list, an array or a column of a data frame."""
    if isinstance(texts, str):
        raise UserError("predict wants a list of texts; write predict([text])")
    found = list(texts)
    for row, text in enumerate(found):
        if not isinstance(text, str):
            raise UserError(f"{what} {row} (from 0) is {text!r}, not a string")
    return found


def load(place: str | Path, device: str = "auto", *, untrained_head: bool = False, **overrides: Any) -> Predictor:
    """From a run's folder, its checkpoint folder, or any checkpoint that brings a tokenizer.

    overrides: as in `from_pretrained`. untrained_head: also with a classifier that was never trained, to measure time.
    UserError for a place without a model, a trained classifier of one label or a tokenizer.
    """
    path = Path(place)
    if (path / "checkpoint").is_dir():
        path = path / "checkpoint"
    elif (path / "run.json").is_file():
        raise UserError(f"{path}: this run has no checkpoint (a baseline, or a run that failed); choose another one")
    model = from_pretrained(path if path.exists() else str(place), **overrides)
    check_answers(model, untrained_head=untrained_head)
    file = model.tokenizer_file
    if file is None:
        raise UserError(f"{place}: the checkpoint brings no tokenizer; put its tokenizer.json beside config.json")
    tokenizer = load_tokenizer(file)
    check_tokenizer(model, tokenizer)
    names = model.config.label_names or placeholders(model.config.num_labels)
    return Predictor(model.to(runtime.pick_device(device)).eval(), tokenizer, names, str(place), origin=origin_of(path))
