"""Metrics of the three problem types, each beside scikit-learn's or torch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics as sk
from torch.nn import functional as F

from longread.inference.metrics import answers_of, mean_loss, metrics, per_class, predicted_of
from longread.problems import HEADLINE, MULTI_LABEL, PROBLEM_TYPES, REGRESSION, SINGLE_LABEL

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(60, 4)) * 3
CLASSES = RNG.integers(0, 4, 60)
SEVERAL = (RNG.random((60, 4)) < 0.3).astype(np.int8)
NUMBERS = RNG.normal(size=60) * 10


def test_answers_and_losses_are_torchs() -> None:
    logits, several = torch.from_numpy(LOGITS), torch.tensor(SEVERAL * 1.0)
    for problem, labels, answers, loss in (
        (SINGLE_LABEL, CLASSES, logits.softmax(1), F.cross_entropy(logits, torch.from_numpy(CLASSES))),
        (MULTI_LABEL, SEVERAL, logits.sigmoid(), F.binary_cross_entropy_with_logits(logits, several)),
        (REGRESSION, NUMBERS, logits[:, :1], F.mse_loss(logits[:, 0], torch.from_numpy(NUMBERS))),
    ):  # fmt: skip
        given = LOGITS[:, :1] if problem == REGRESSION else LOGITS
        np.testing.assert_allclose(answers_of(given, problem), answers, rtol=1e-6)
        assert mean_loss(given, labels, problem) == pytest.approx(float(loss), rel=1e-12)
    assert answers_of(np.array([[-900.0, 900.0]]), MULTI_LABEL).tolist() == [[0.0, 1.0]]


def test_rows_in_parts_have_the_answers_and_the_loss_of_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = np.random.default_rng(3)
    logits = drawn.normal(size=(103, 4)).astype(np.float32) * 5
    labels = {
        SINGLE_LABEL: drawn.integers(0, 4, 103),
        MULTI_LABEL: drawn.integers(0, 2, (103, 4)),
        REGRESSION: drawn.normal(size=103),
    }
    for problem in PROBLEM_TYPES:
        whole = answers_of(logits, problem), mean_loss(logits, labels[problem], problem)
        with monkeypatch.context() as patch:
            patch.setattr("longread.inference.metrics.PART", 10)
            assert np.array_equal(answers_of(logits, problem), whole[0])
            assert mean_loss(logits, labels[problem], problem) == pytest.approx(whole[1], rel=1e-12)


def test_metrics_of_classes() -> None:
    answers = answers_of(LOGITS)
    found, predicted = metrics(CLASSES, answers), answers.argmax(1)
    assert found["accuracy"] == sk.accuracy_score(CLASSES, predicted)
    assert found["f1"] == found["f1_macro"] == pytest.approx(sk.f1_score(CLASSES, predicted, average="macro"))
    assert found["average_precision"] == pytest.approx(sk.average_precision_score(CLASSES, answers, average="macro"))
    two = answers_of(LOGITS[:, :2])
    found = metrics(CLASSES % 2, two)
    assert found["f1"] == pytest.approx(sk.f1_score(CLASSES % 2, two.argmax(1)))
    assert found["average_precision"] == pytest.approx(sk.average_precision_score(CLASSES % 2, two[:, 1]))


@pytest.mark.parametrize("thresholds", [0.5, [0.1, 0.9, 0.5, 0.3]])
def test_metrics_of_several_labels(thresholds: float | list[float]) -> None:
    answers = answers_of(LOGITS, MULTI_LABEL)
    found = metrics(SEVERAL, answers, MULTI_LABEL, thresholds)
    predicted = (answers > np.array(thresholds)).astype(int)
    assert found["exact_match"] == sk.accuracy_score(SEVERAL, predicted)
    for average in ("micro", "macro"):
        assert found[f"f1_{average}"] == pytest.approx(sk.f1_score(SEVERAL, predicted, average=average))
    assert found["average_precision"] == pytest.approx(sk.average_precision_score(SEVERAL, answers, average="macro"))
    table, confusion = per_class(SEVERAL, answers, "abcd", MULTI_LABEL, thresholds)
    assert confusion is None
    assert [of["f1"] for of in table.values()] == pytest.approx(list(sk.f1_score(SEVERAL, predicted, average=None)))


def test_one_label_of_several_is_no_two_classes() -> None:
    answers, labels = answers_of(LOGITS[:, :1], MULTI_LABEL), SEVERAL[:, :1]
    table, _ = per_class(labels, answers, ["spam"], MULTI_LABEL)
    assert table["spam"]["support"] == labels.sum()
    assert metrics(labels, answers, MULTI_LABEL)["f1_macro"] == pytest.approx(table["spam"]["f1"])


def test_metrics_of_numbers() -> None:
    given = answers_of((NUMBERS + RNG.normal(size=60))[:, None], REGRESSION)
    found = metrics(NUMBERS, given, REGRESSION)
    assert found["mse"] == pytest.approx(sk.mean_squared_error(NUMBERS, given[:, 0]))
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(NUMBERS, given[:, 0]))
    assert found["r2"] == pytest.approx(sk.r2_score(NUMBERS, given[:, 0]))
    assert found["spearman"] == pytest.approx(stats.spearmanr(NUMBERS, given[:, 0]).statistic)
    assert predicted_of(given, REGRESSION).tolist() == given[:, 0].tolist()


@pytest.mark.parametrize("problem", PROBLEM_TYPES)
def test_metrics_are_finite_where_nothing_varies(problem: str) -> None:
    labels = {SINGLE_LABEL: np.zeros(3, int), MULTI_LABEL: np.zeros((3, 2), np.int8), REGRESSION: np.zeros(3)}[problem]
    answers = np.ones((3, 1 if problem == REGRESSION else 2)) / 4
    found = metrics(labels, answers, problem)  # type: ignore[arg-type]
    assert np.isfinite(list(found.values())).all() and HEADLINE[problem] in found
