"""What turns tokens into logits: a model of this package, linear or not, or an exported graph (inference/onnx.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from longread.data.dataset import Split
from longread.data.tokenizer import Encoded
from longread.inference.evaluate import split_logits
from longread.models.classifier import Classifier
from longread.models.linear import LinearModel
from longread.models.weights import weights_fingerprint
from longread.records import canonical, fingerprint


class Scorer(Protocol):
    """The part of a `Predictor` that computes."""

    @property
    def positions(self) -> int | None:
        """Tokens of the longest sequence that it takes; None: of any length."""

    @property
    def attention(self) -> str:
        """What a person calls it."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    @property
    def token_types(self) -> bool:
        """Whether it tells the two texts of a pair apart."""

    @property
    def fingerprint(self) -> str:
        """Of all that decides its logits."""

    def logits(self, encoded: Encoded, tokens: int) -> npt.NDArray[np.floating[Any]]:
        """[S, number of labels], in the order of the sequences; about `tokens` are computed at once."""


@dataclass
class TorchScorer:
    """A `Classifier`, on the device where its weights are. precision: "float32", "bfloat16" or "int8" (it is)."""

    model: Classifier
    precision: str = "float32"

    @property
    def positions(self) -> int:
        return self.model.config.max_length

    @property
    def attention(self) -> str:
        return self.model.config.attention

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def token_types(self) -> bool:
        return self.model.config.type_vocab_size > 0

    @property
    def fingerprint(self) -> str:
        config = canonical(self.model.config.to_dict())
        return fingerprint(config, weights_fingerprint(self.model), self.precision, str(self.device))

    def logits(self, encoded: Encoded, tokens: int) -> npt.NDArray[np.float32]:
        none = np.zeros(len(encoded.lengths), dtype=np.int64)
        split = Split(encoded, none, none, "given", "given", (), "")
        return split_logits(
            self.model, split, tokens=tokens, device=self.device, precision=self.precision, alone=True
        ).logits


@dataclass
class LinearScorer:
    """A `LinearModel`; sequences are terms, and of any length."""

    model: LinearModel

    @property
    def positions(self) -> None:
        return None

    @property
    def attention(self) -> str:
        return self.model.attention

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    @property
    def token_types(self) -> bool:
        return self.model.pairs

    @property
    def fingerprint(self) -> str:
        return self.model.fingerprint

    def logits(self, encoded: Encoded, tokens: int) -> npt.NDArray[np.float64]:
        return self.model.scores(encoded)
