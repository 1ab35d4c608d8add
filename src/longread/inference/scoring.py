"""What turns tokens into logits: a model of this package, or a graph made from one (inference/onnx.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from longread.data.dataset import Split
from longread.data.tokenizer import Encoded
from longread.inference.evaluate import split_logits
from longread.models.classifier import Classifier


class Scorer(Protocol):
    """The part of a `Predictor` that computes."""

    @property
    def positions(self) -> int:
        """Tokens of the longest sequence that it takes."""

    def logits(self, encoded: Encoded, tokens: int) -> npt.NDArray[np.float32]:
        """[S, number of labels], in the order of the sequences; about `tokens` are computed at once."""


@dataclass
class TorchScorer:
    """A `Classifier`, on the device where its weights are. precision: "float32" or "bfloat16"."""

    model: Classifier
    precision: str = "float32"

    @property
    def positions(self) -> int:
        return self.model.config.max_length

    def logits(self, encoded: Encoded, tokens: int) -> npt.NDArray[np.float32]:
        none = np.zeros(len(encoded.lengths), dtype=np.int64)
        split = Split(encoded, none, none, "given", "given", (), "")
        device = next(self.model.parameters()).device
        return split_logits(self.model, split, tokens=tokens, device=device, precision=self.precision).logits
