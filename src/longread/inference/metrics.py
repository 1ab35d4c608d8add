"""What predictions are worth, for each of the three problem types.

R rows and C labels. `labels` are the classes [R] (int), 0 or 1 for each label [R, C], or numbers [R] (float). `answers`
are probabilities [R, C], of a regression the predicted numbers [R, 1]: what `answers_of` makes of logits [R, C].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from longread.problems import MULTI_LABEL, REGRESSION, SINGLE_LABEL, ProblemType

Array = npt.NDArray[Any]
PART = 1 << 18  # rows whose logits are held in float64 at a time
THRESHOLD = 0.5  # a label of several is given where its probability is above


def answers_of(logits: Array, problem_type: ProblemType = SINGLE_LABEL) -> npt.NDArray[np.float32]:
    """Softmax over the classes, the logistic function of each label, or the numbers as they are."""
    answers = np.empty(logits.shape, dtype=np.float32)
    for begin in range(0, len(logits), PART):
        wide = logits[begin : begin + PART].astype(np.float64)
        if problem_type == MULTI_LABEL:
            wide = np.exp(-np.logaddexp(0.0, -wide))
        elif problem_type != REGRESSION:
            wide = np.exp(_log_softmax(wide))
        answers[begin : begin + PART] = wide
    return answers


def mean_loss(logits: Array, labels: Array, problem_type: ProblemType = SINGLE_LABEL) -> float:
    """Mean over the rows (and labels) of the loss that training lowers, without class weights; 0 for no rows."""
    if not len(labels):
        return 0.0
    total = 0.0
    for begin in range(0, len(labels), PART):
        wide, own = logits[begin : begin + PART].astype(np.float64), labels[begin : begin + PART]
        if problem_type == REGRESSION:
            mean = np.square(wide[:, 0] - own).mean()
        elif problem_type == MULTI_LABEL:
            mean = (np.logaddexp(0.0, wide) - wide * own).mean()
        else:
            mean = -_log_softmax(wide)[np.arange(len(own)), own].mean()
        total += float(mean) * (len(own) / len(labels))
    return total


def _log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))  # type: ignore[no-any-return]


def predicted_of(
    answers: Array, problem_type: ProblemType = SINGLE_LABEL, thresholds: Sequence[float] | None = None
) -> Array:
    """The class [R], 0 or 1 for each label [R, C], or the number [R].

    `thresholds`: of two classes that of the second, of several labels one for each (None: one half).
    """
    if problem_type == REGRESSION:
        return answers[:, 0]
    if problem_type == MULTI_LABEL:
        return (answers > np.asarray(THRESHOLD if thresholds is None else thresholds)).astype(np.int8)  # type: ignore[no-any-return]
    if thresholds is not None:
        return (answers[:, 1] > thresholds[0]).astype(np.int64)  # type: ignore[no-any-return]
    return answers.argmax(axis=1)  # type: ignore[no-any-return]


def metrics(
    labels: Array,
    answers: Array,
    problem_type: ProblemType = SINGLE_LABEL,
    thresholds: Sequence[float] | None = None,
) -> dict[str, float]:
    """accuracy, f1, f1_macro and average_precision; exact_match, f1_micro, f1_macro and average_precision; or mse, mae,
    spearman and r2. All are finite."""
    if problem_type == REGRESSION:
        return _of_numbers(labels, answers[:, 0].astype(np.float64))
    predicted = predicted_of(answers, problem_type, thresholds)
    if problem_type == MULTI_LABEL:
        return _of_labels(labels, predicted, answers)
    return _of_classes(labels, predicted, answers)


def _of_classes(labels: Array, predicted: Array, probabilities: Array) -> dict[str, float]:
    """`f1` is of class 1 for two classes, else macro: the mean over the classes that occur; so is the average
    precision."""
    from sklearn.metrics import f1_score

    two = probabilities.shape[1] == 2
    macro = float(f1_score(labels, predicted, average="macro", zero_division=0.0))
    columns = [1] if two else range(probabilities.shape[1])
    return {
        "accuracy": float((predicted == labels).mean()),
        "f1": float(f1_score(labels, predicted, average="binary", zero_division=0.0)) if two else macro,
        "f1_macro": macro,
        "average_precision": _average_precision([(labels == c, probabilities[:, c]) for c in columns]),
    }


def _of_labels(labels: Array, predicted: Array, probabilities: Array) -> dict[str, float]:
    """`exact_match`: all labels of a row are right. `f1_macro` is the mean over the labels, `f1_micro` of all
    decisions; `average_precision` is the mean over the labels that occur."""
    right = ((labels == 1) & (predicted == 1)).sum(axis=0)
    said = (labels == 1).sum(axis=0) + (predicted == 1).sum(axis=0)
    return {
        "exact_match": float((labels == predicted).all(axis=1).mean()),
        "f1_micro": float(2 * right.sum() / max(said.sum(), 1)),
        "f1_macro": float(np.mean(2 * right / np.maximum(said, 1))),
        "average_precision": _average_precision([(labels[:, c], probabilities[:, c]) for c in range(labels.shape[1])]),
    }


def _average_precision(columns: list[tuple[Array, Array]]) -> float:
    """Mean over the columns (is it the label? its probability) in which the label occurs; 0 where there is none."""
    from sklearn.metrics import average_precision_score

    found = [average_precision_score(is_label, given) for is_label, given in columns if is_label.any()]
    return float(np.mean(found)) if found else 0.0


def _of_numbers(labels: Array, predicted: Array) -> dict[str, float]:
    """`r2` is 1 - MSE / variance of the labels; it and `spearman` are 0 where all numbers are equal."""
    from scipy.stats import spearmanr

    squared, spread = float(np.square(predicted - labels).mean()), float(labels.var())
    varied = len(labels) > 1 and np.ptp(labels) > 0 and np.ptp(predicted) > 0
    return {
        "mse": squared,
        "mae": float(np.abs(predicted - labels).mean()),
        "spearman": float(spearmanr(labels, predicted).statistic) if varied else 0.0,
        "r2": 1 - squared / spread if spread > 0 else 0.0,
    }


def per_class(
    labels: Array,
    answers: Array,
    label_names: Sequence[str],
    problem_type: ProblemType = SINGLE_LABEL,
    thresholds: Sequence[float] | None = None,
) -> tuple[dict[str, dict[str, float]], tuple[tuple[int, ...], ...] | None]:
    """Precision, recall, F1 and support of each class or label by name, and the confusion matrix of classes.

    confusion matrix: row of the true class, column of the predicted one, in the order of `label_names`; None where a
    row has several labels. A class that was never predicted has precision 0, one that does not occur has recall 0 and
    support 0. ValueError for a regression, which has no classes.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    if problem_type == REGRESSION:
        raise ValueError("a regression has no classes")
    predicted = predicted_of(answers, problem_type, thresholds)
    numbers = range(len(label_names))
    if problem_type == MULTI_LABEL and len(label_names) == 1:  # scikit-learn takes one column for classes
        found = precision_recall_fscore_support(labels[:, 0], predicted[:, 0], labels=[1], zero_division=0.0)
    else:
        found = precision_recall_fscore_support(labels, predicted, labels=numbers, zero_division=0.0)
    table = {
        name: {"precision": float(p), "recall": float(r), "f1": float(f), "support": int(n)}
        for name, p, r, f, n in zip(label_names, *found, strict=True)
    }
    if problem_type == MULTI_LABEL:
        return table, None
    matrix = confusion_matrix(labels, predicted, labels=numbers)
    return table, tuple(tuple(int(count) for count in row) for row in matrix)
