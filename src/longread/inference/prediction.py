"""What a model answers to one text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy.typing as npt

from longread.inference.metrics import answers_of, predicted_of
from longread.models.decision import Decision
from longread.problems import MULTI_LABEL, REGRESSION, SINGLE_LABEL, ProblemType

EMPTY = "the text is empty"


@dataclass(frozen=True)
class Prediction:
    """`label` and the probability of each label, by name. Of an empty text both are empty, and `why` says so.

    Of a model that gives a text several labels, `labels` has those whose probability is above the threshold, and
    `label` is None; of a regression there is `value` alone.

    `tokens` of the text's `tokens_in_text` were read, the tokenizer's marks among them.
    """

    label: str | None
    probabilities: dict[str, float]
    tokens: int = 0
    tokens_in_text: int = 0
    why: str | None = None  # there is no answer
    labels: tuple[str, ...] | None = None
    value: float | None = None
    thresholds: Mapping[str, float] | None = None  # chosen ones, by label

    def answer(self, problem_type: ProblemType) -> dict[str, Any]:
        """What is answered, as it is written: label, labels or value, and the probabilities."""
        if problem_type == REGRESSION:
            return {"value": self.value}
        several = None if self.labels is None else list(self.labels)
        own = {"labels": several} if problem_type == MULTI_LABEL else {"label": self.label}
        chosen = {} if self.thresholds is None else {"thresholds": dict(self.thresholds)}
        return own | chosen | {"probabilities": self.probabilities}

    @property
    def truncated(self) -> bool:
        """The text was longer than the model reads; a part of it was not seen."""
        return self.tokens < self.tokens_in_text


class Named(Protocol):
    """What answers are read with: a `Predictor`, or a `LinearModel`."""

    @property
    def label_names(self) -> tuple[str, ...]: ...

    @property
    def problem_type(self) -> ProblemType: ...

    @property
    def decision(self) -> Decision: ...


def is_empty(text: str, pair: str | None) -> bool:
    """Such a text has no answer."""
    return not text.strip() or (pair is not None and not pair.strip())


def predictions_of(
    answers: npt.NDArray[Any], names: Sequence[str], problem_type: ProblemType, decision: Decision
) -> list[Prediction]:
    """answers [R, C] as in metrics.py, in names."""
    predicted = predicted_of(answers, problem_type, decision.of(names))
    if problem_type == REGRESSION:
        return [Prediction(None, {}, value=float(number)) for number in predicted]
    named = [dict(zip(names, row, strict=True)) for row in answers.tolist()]
    own = decision.thresholds
    if problem_type == MULTI_LABEL:
        chosen = [tuple(n for n, yes in zip(names, row, strict=True) if yes) for row in predicted]
        return [Prediction(None, of, labels=labels, thresholds=own) for of, labels in zip(named, chosen, strict=True)]
    return [Prediction(names[place], of, thresholds=own) for of, place in zip(named, predicted.tolist(), strict=True)]


def strongest(model: Named, logits: npt.NDArray[Any]) -> tuple[int, dict[str, Any]]:
    """Of one text's logits [1, C]: the column that is predicted, of several labels the most probable one.

    And its `probability`, or the `value` of a regression.
    """
    if model.problem_type == REGRESSION:
        return 0, {"probability": None, "value": float(logits[0, 0])}
    answers = answers_of(logits, model.problem_type)
    place = int(answers[0].argmax())
    if model.problem_type == SINGLE_LABEL:  # a threshold may say otherwise
        place = int(predicted_of(answers, SINGLE_LABEL, model.decision.of(model.label_names))[0])
    return place, {"probability": float(answers[0, place])}
