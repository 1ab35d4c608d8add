"""How often each class or label is there: what is said of it before training, and the weights that even it out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from longread.config import RunConfig
from longread.data.dataset import Split
from longread.data.examples import PART, Examples
from longread.errors import UserError
from longread.problems import MULTI_LABEL, REGRESSION

log = logging.getLogger("longread")

NOTABLE_RATIO = 5  # the most frequent class has so many times the rows of the rarest
NOTABLE_SHARE = 0.1  # of several labels: fewer rows than this have one
MOST_NAMED = 12
FORMS = "none, balanced, or NAME=NUMBER,NAME=NUMBER"


def counts(split: Split | Examples) -> npt.NDArray[np.int64]:
    """[C] rows of each class, or with each label."""
    classes, found = len(split.label_names), np.zeros(len(split.label_names), dtype=np.int64)
    for begin in range(0, len(split), PART):
        part = split.labels[begin : begin + PART]
        found += part.sum(axis=0) if split.problem_type == MULTI_LABEL else np.bincount(part, minlength=classes)
    return found


def check_targets(split: Split | Examples, config: RunConfig) -> None:
    """Says the counts where some class or label is rare, and what can be done about it.

    UserError for settings of classes that do not fit the training rows.
    """
    weights_of(split, config.class_weights)
    if split.problem_type == REGRESSION:
        if config.label_smoothing:
            raise UserError("--label-smoothing: a regression has no classes; leave it out")
        return
    found = counts(split)
    several = split.problem_type == MULTI_LABEL
    notable = found.min() < NOTABLE_SHARE * len(split) if several else found.max() >= NOTABLE_RATIO * found.min()
    if not notable:
        if several:
            rarest = int(found.argmin())
            name, rows = split.label_names[rarest], f"{found[rarest]:,}"
            log.info("rarest label: %s, on %s of %s training rows", name, rows, f"{len(split):,}")
        return
    order = np.argsort(-found, kind="stable")
    named = [f"{split.label_names[place]} {found[place]:,}" for place in order]
    if len(named) > MOST_NAMED:
        named = [*named[: MOST_NAMED // 2], "…", *named[-MOST_NAMED // 2 :]]
    hint = "; --class-weights balanced weights the rare ones up" if config.class_weights == "none" else ""
    what = "labels" if several else "classes"
    log.warning("%s of %s training rows: %s%s", what, f"{len(split):,}", ", ".join(named), hint)


def weights_of(split: Split | Examples, class_weights: str) -> npt.NDArray[np.float64] | None:
    """float64 [C], as `--class-weights` asks for; None where nothing is weighted.

    balanced: of a class, rows / (classes · rows of it), as scikit-learn has it; of a label, rows without it / rows with
    it. UserError for what is none of the forms, names no class, or stands before a regression.
    """
    if class_weights == "none":
        return None
    if split.problem_type == REGRESSION:
        raise UserError("--class-weights: a regression has no classes; leave it out")
    if class_weights != "balanced":
        return _given(class_weights, split.label_names)
    found = np.maximum(counts(split), 1)
    if split.problem_type == MULTI_LABEL:
        return np.maximum(len(split) - found, 1) / found
    return len(split) / (len(found) * found)  # type: ignore[no-any-return]


def _given(text: str, names: Sequence[str]) -> npt.NDArray[np.float64]:
    """Classes that are not named weigh 1."""
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, equals, number = part.rpartition("=")
        value: Any = None
        try:
            value = float(number)
        except ValueError:
            pass
        if not equals or value is None or not 0 < value < float("inf"):
            raise UserError(f"--class-weights {text}: give {FORMS}, each number above 0")
        if name.strip() not in names:
            raise UserError(f"--class-weights: there is no class {name.strip()!r}; there are {', '.join(names[:10])}")
        weights[name.strip()] = value
    return np.array([weights.get(name, 1.0) for name in names])
