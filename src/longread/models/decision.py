"""What was chosen on held-out rows behind the training, and how a checkpoint keeps it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from longread.errors import UserError
from longread.problems import MULTI_LABEL, SINGLE_LABEL, ProblemType

DECISION = "longread_decision"  # key of config.json


@dataclass(frozen=True)
class Decision:
    """`thresholds`: label -> the probability above which it is given (of two classes: of the second one alone).

    `temperature` is in the weights already: the last layer is divided by it, so that whatever reads them has it.
    `threshold_metric`: what the thresholds are the best of; `rows`: how many held-out rows all was chosen on;
    `fingerprint`: of these rows, where they are no part of the training's task.
    """

    thresholds: Mapping[str, float] | None = None
    threshold_metric: str | None = None
    temperature: float | None = None
    rows: int | None = None
    fingerprint: str | None = None

    def of(self, label_names: Sequence[str]) -> tuple[float, ...] | None:
        """The thresholds in the order of the labels that have one; None where none was chosen."""
        if self.thresholds is None:
            return None
        return tuple(self.thresholds[name] for name in label_names if name in self.thresholds)

    def to_json(self) -> dict[str, Any]:
        """Empty where nothing was chosen."""
        return {name: value for name, value in vars(self).items() if value is not None}

    @classmethod
    def from_json(cls, told: Any, label_names: Sequence[str], problem_type: ProblemType | None, where: str) -> Decision:
        """UserError for thresholds that are not those of these labels."""
        if told is None:
            return cls()
        try:
            found = told.get("thresholds")
            thresholds = None if found is None else {str(name): float(value) for name, value in found.items()}
            decision = cls(
                thresholds,
                told.get("threshold_metric"),
                told.get("temperature"),
                told.get("rows"),
                told.get("fingerprint"),
            )
        except (AttributeError, TypeError, ValueError) as error:
            raise UserError(f"{where}: {DECISION} must be an object with a threshold for each label") from error
        if thresholds is not None and sorted(thresholds) != sorted(with_threshold(label_names, problem_type)):
            given, names = ", ".join(thresholds) or "nothing", ", ".join(label_names)
            raise UserError(f"{where}: {DECISION} has thresholds of {given}; the labels are {names}")
        return decision


def with_threshold(label_names: Sequence[str], problem_type: ProblemType | None) -> Sequence[str]:
    """The labels that may have a threshold: the second of two classes, or each of several labels."""
    if problem_type == MULTI_LABEL:
        return label_names
    return label_names[1:] if problem_type in (None, SINGLE_LABEL) and len(label_names) == 2 else ()
