"""What a model answers with: Hugging Face's three problem types, and what a record says of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

ProblemType = Literal["single_label_classification", "multi_label_classification", "regression"]
PROBLEM_TYPES: tuple[ProblemType, ...] = get_args(ProblemType)
SINGLE_LABEL, MULTI_LABEL, REGRESSION = PROBLEM_TYPES
IN_WORDS: dict[str, str] = {
    SINGLE_LABEL: "one label for each text",
    MULTI_LABEL: "any number of labels for each text",
    REGRESSION: "a number for each text",
}
# The number by which an epoch is chosen and that progress shows; higher is better in each.
HEADLINE: dict[str, str] = {SINGLE_LABEL: "accuracy", MULTI_LABEL: "f1_micro", REGRESSION: "r2"}
# The share of a batch's rows that the training's progress tells; a regression has none.
MATCH: dict[str, str] = {SINGLE_LABEL: "accuracy", MULTI_LABEL: "exact_match"}
METRIC_WORDS: dict[str, str] = {
    "accuracy": "accuracy", "f1": "F1", "f1_macro": "macro F1", "f1_micro": "micro F1", "exact_match": "exact match",
    "average_precision": "average precision", "mse": "MSE", "mae": "MAE", "spearman": "Spearman", "r2": "R²",
    "loss": "loss",
}  # fmt: skip


def problem_of(record: Mapping[str, Any]) -> ProblemType:
    """Of a run record's JSON; records from before there were three have one label for each text."""
    found = (record.get("dataset") or {}).get("problem_type")
    return found if found in PROBLEM_TYPES else SINGLE_LABEL


def f1_name(label_names: Sequence[str]) -> str:
    """Which F1 a record of one class for each text has as `f1`, in words."""
    return f"F1 of {label_names[1]!r}" if len(label_names) == 2 else "macro F1"


def is_absent(record: Mapping[str, Any], number: int) -> bool:
    """Whether class `number` stands on no evaluated row, and was given to none: its precision and recall are undefined.

    Where a row has several labels, how often each was given is not recorded, and the first decides.
    """
    support = [one["support"] for one in record["per_class"].values()][number]
    return support == 0 and not any(row[number] for row in record.get("confusion_matrix") or ())
