"""Weights of classes and labels, what is said of rare ones, and numbers of any size."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from longread.config import RunConfig
from longread.data.dataset import Split, split_of
from longread.data.examples import Examples
from longread.data.tokenizer import byte_tokenizer
from longread.errors import UserError
from longread.inference.evaluate import split_logits
from longread.models.classifier import build
from longread.problems import MULTI_LABEL, REGRESSION, SINGLE_LABEL, ProblemType
from longread.training.balance import check_targets, weights_of
from longread.training.losses import make_loss
from longread.training.numbers import begin_at, spread_of
from longread.training.optimize import make_optimizer


def split(labels: Any, names: tuple[str, ...], problem: ProblemType, texts: str = "") -> Split:
    rows = np.arange(len(labels))
    examples = Examples("t", "train", list(texts) or ["x"] * len(rows), None, np.array(labels), rows, names, problem)
    tokenizer = byte_tokenizer()
    return split_of(examples, tokenizer, tokenizer.encode(examples.texts, None, 8))


CLASSES = split([0] * 15 + [1] * 4 + [2], ("often", "some", "rare"), SINGLE_LABEL)
LABELS = split([[1, 0]] * 16 + [[1, 1]] * 4, ("always", "some"), MULTI_LABEL)
NUMBERS = split([100.0, 140.0], ("price",), REGRESSION)


@pytest.mark.parametrize(
    ("rows", "given", "expected"),
    [
        (CLASSES, "none", None),
        (CLASSES, "balanced", [20 / 45, 20 / 12, 20 / 3]),
        (CLASSES, "rare=5, often=0.5", [0.5, 1, 5]),
        (LABELS, "balanced", [1 / 20, 16 / 4]),
        (LABELS, "some=3", [1, 3]),
    ],
)
def test_weights(rows: Split, given: str, expected: list[float] | None) -> None:
    found = weights_of(rows, given)
    assert (None if found is None else found.tolist()) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("rows", "changes", "told"),
    [
        (CLASSES, {"class_weights": "rar=5"}, "there is no class 'rar'; there are often, some, rare"),
        (CLASSES, {"class_weights": "balance"}, "give none, balanced, or NAME=NUMBER"),
        (CLASSES, {"class_weights": "rare=0"}, "each number above 0"),
        (NUMBERS, {"class_weights": "balanced"}, "--class-weights: a regression has no classes"),
        (NUMBERS, {"label_smoothing": 0.1}, "--label-smoothing: a regression has no classes"),
    ],
)
def test_what_does_not_fit_is_told(rows: Split, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        check_targets(rows, RunConfig(**changes))


@pytest.mark.parametrize(
    ("rows", "weights", "told"),
    [
        (CLASSES, "none", "classes of 20 training rows: often 15, some 4, rare 1; --class-weights balanced"),
        (CLASSES, "balanced", "classes of 20 training rows: often 15, some 4, rare 1\n"),
        (split([0, 1, 1], ("a", "b"), SINGLE_LABEL), "none", None),
        (LABELS, "none", "rarest label: some, on 4 of 20 training rows"),
        (split([[1, 0]] * 19 + [[0, 1]], ("a", "b"), MULTI_LABEL), "none", "labels of 20 training rows: a 19, b 1; "),
        (NUMBERS, "none", None),
    ],
)
def test_rare_classes_are_told_before_training(
    rows: Split, weights: str, told: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "longread"):
        check_targets(rows, RunConfig(class_weights=weights))
    assert told in caplog.text if told else not caplog.text


def test_parts_of_a_loss_are_torchs() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    labels = (torch.rand(6, 3, generator=generator) < 0.4).double()
    weights = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
    several = make_loss(MULTI_LABEL, weights.numpy(), 0.0, torch.device("cpu"))
    expected = F.binary_cross_entropy_with_logits(logits, labels, pos_weight=weights)
    parts = [several.part(logits[rows], labels[rows]) for rows in (slice(0, 2), slice(2, 6))]
    torch.testing.assert_close(sum(parts) / several.denominator(labels.numpy()), expected)
    assert several.matches(torch.tensor([[1.0, -1], [1, 1]]), torch.tensor([[1, 0], [1, 0]])) == 1


def test_a_regression_begins_at_the_mean_and_learns_in_steps_of_the_spread() -> None:
    model = build("dense", vocab_size=260, hidden_size=8, num_attention_heads=2, num_hidden_layers=1, num_labels=1)
    before = model.head.classifier.weight.clone()
    begin_at(model, NUMBERS)
    assert model.head.classifier.bias.item() == 120 and spread_of(NUMBERS) == 20
    assert torch.equal(model.head.classifier.weight, 20 * before)
    groups = make_optimizer(model, RunConfig(), 1e-3, spread_of(NUMBERS)).param_groups
    found = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert found[id(model.head.classifier.weight)] == pytest.approx((0.02, 0.01 / 20))
    assert found[id(model.head.classifier.bias)] == pytest.approx((0.02, 0))
    assert found[id(model.embeddings.word.weight)] == pytest.approx((1e-3, 0.01))


def test_bfloat16_does_not_round_the_numbers() -> None:
    model = build("dense", vocab_size=260, hidden_size=8, num_attention_heads=2, num_hidden_layers=1, num_labels=1)
    rows = split(np.linspace(250_000, 256_000, 9), ("price",), REGRESSION, texts="abcdefghi")
    begin_at(model, rows)
    answers = {}
    for precision in ("float32", "bfloat16"):
        found = split_logits(model, rows, tokens=64, device=torch.device("cpu"), precision=precision)
        answers[precision] = found.logits.ravel()
    assert np.abs(answers["bfloat16"] - answers["float32"]).max() < 0.02 * spread_of(rows)
    assert len(set(answers["bfloat16"])) == len(rows)
