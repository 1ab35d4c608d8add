"""Predictions and what they are worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from longread.data.dataset import Split, micro_batches
from longread.inference.collate import Usage, make_batch, planned_batches
from longread.models.classifier import Classifier
from longread.system.measure import Stopwatch


@dataclass(frozen=True)
class Scores:
    """Of all sequences of a split, in its order: logits [R, C], and what they took."""

    logits: npt.NDArray[np.float32]
    seconds: float
    cpu_seconds: float
    usage: Usage


@dataclass(frozen=True)
class Predictions:
    """Of all rows of a split, in its order: probabilities [R, C], the mean loss, and what they took."""

    probabilities: npt.NDArray[np.float32]
    loss: float
    seconds: float
    cpu_seconds: float
    usage: Usage


def predict_split(
    model: Classifier, split: Split, *, tokens: int, device: torch.device, precision: str = "float32"
) -> Predictions:
    """Probabilities of every sequence, as `split_logits` computes them."""
    scores = split_logits(model, split, tokens=tokens, device=device, precision=precision)
    probabilities, loss = answers_of(scores.logits, split.labels)
    return Predictions(probabilities, loss, scores.seconds, scores.cpu_seconds, scores.usage)


def split_logits(
    model: Classifier, split: Split, *, tokens: int, device: torch.device, precision: str = "float32"
) -> Scores:
    """Logits of every sequence. Sorted by length, so hardly anything is padded; `tokens` bounds memory."""
    usage = Usage()
    logits = np.zeros((len(split), model.config.num_labels), dtype=np.float32)
    was_training = model.training
    if was_training:
        model.eval()
    watch = Stopwatch(device)
    with watch, torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, precision == "bfloat16"):
        parts = list(micro_batches(np.arange(len(split)), split.lengths, tokens))
        batches = planned_batches(model, (make_batch(split, part, device) for part in parts), precision=precision)
        found = []  # read when all have run: a device that is asked at once waits for the answer to be fetched
        for batch in batches:
            found.append(model.classify(batch.tokens, batch.packed, batch.types).float())
            usage.add(model, batch.packed)
        for part, some in zip(parts, found, strict=True):
            logits[part] = some.cpu().numpy()
    if was_training:
        model.train()
    return Scores(logits, watch.seconds, watch.cpu_seconds, usage)


def answers_of(logits: npt.NDArray[Any], labels: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float32], float]:
    """Probabilities [R, C] and the mean loss, of logits [R, C] and labels [R]."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    loss = float(-log_probabilities[np.arange(len(labels)), labels].mean()) if len(labels) else 0.0
    return np.exp(log_probabilities).astype(np.float32), loss


def metrics(labels: npt.NDArray[np.int64], probabilities: npt.NDArray[Any]) -> dict[str, float]:
    """Accuracy and F1: of class 1 for two classes, else macro, the mean over the classes that occur."""
    from sklearn.metrics import f1_score

    predicted = probabilities.argmax(axis=1)
    average = "binary" if probabilities.shape[1] == 2 else "macro"
    return {
        "accuracy": float((predicted == labels).mean()),
        "f1": float(f1_score(labels, predicted, average=average, zero_division=0.0)),
    }


def f1_name(label_names: Sequence[str]) -> str:
    """Which F1 `metrics` gives, in words."""
    return f"F1 of {label_names[1]!r}" if len(label_names) == 2 else "macro F1"


def per_class(
    labels: npt.NDArray[np.int64], probabilities: npt.NDArray[Any], label_names: Sequence[str]
) -> tuple[dict[str, dict[str, float]], tuple[tuple[int, ...], ...]]:
    """Precision, recall, F1 and support of each class by name, and the confusion matrix.

    confusion matrix: row of the true class, column of the predicted one, in the order of `label_names`. A class that
    was never predicted has precision 0, one that does not occur has recall 0 and support 0.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    predicted, classes = probabilities.argmax(axis=1), range(len(label_names))
    found = precision_recall_fscore_support(labels, predicted, labels=classes, zero_division=0.0)
    table = {
        name: {"precision": float(p), "recall": float(r), "f1": float(f), "support": int(n)}
        for name, p, r, f, n in zip(label_names, *found, strict=True)
    }
    matrix = confusion_matrix(labels, predicted, labels=classes)
    return table, tuple(tuple(int(count) for count in row) for row in matrix)
