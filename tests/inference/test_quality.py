"""What is looked at beside accuracy: calibration, thresholds, lengths, and the worst mistakes with their texts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from longread.data.examples import Examples
from longread.inference.calibration import calibration, fit_temperature
from longread.inference.metrics import answers_of, mean_loss
from longread.inference.mistakes import mistakes_page, worst_mistakes
from longread.inference.slices import by_length
from longread.inference.thresholds import choose_thresholds
from longread.problems import MULTI_LABEL, REGRESSION, SINGLE_LABEL


def noisy(rows: int, classes: int, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose probabilities are true, times a factor; and labels drawn from them."""
    random = np.random.default_rng(1)
    logits = 1.5 * random.standard_normal((rows, classes))
    labels = (answers_of(logits).cumsum(axis=1) < random.random((rows, 1))).sum(axis=1)
    return factor * logits, np.minimum(labels, classes - 1)


def test_calibration_error_is_the_weighted_distance_of_bins_from_the_diagonal() -> None:
    # Two bins of the fifteen: (.6, .667] with 4 answers, one of them right, and (.867, .933] with one right answer.
    answers = np.array([[0.65, 0.35]] * 4 + [[0.1, 0.9]])
    found = calibration(np.array([0, 1, 1, 1, 1]), answers)
    assert found is not None
    assert found["ece"] == pytest.approx((4 * abs(0.65 - 0.25) + abs(0.9 - 1)) / 5)
    assert [(round(b["low"], 3), b["answers"], b["right"]) for b in found["bins"]] == [(0.6, 4, 0.25), (0.867, 1, 1.0)]
    of_labels = calibration(np.array([[1, 0], [0, 0]]), np.array([[0.2, 0.2], [0.2, 0.2]]), MULTI_LABEL)
    assert of_labels is not None and of_labels["ece"] == pytest.approx(0.05)
    assert calibration(np.array([1.0]), np.array([[1.5]]), REGRESSION) is None


@pytest.mark.parametrize("factor", [0.5, 1.0, 4.0])
def test_the_temperature_undoes_what_was_done_to_true_probabilities(factor: float) -> None:
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator
    from sklearn.linear_model import LogisticRegression

    logits, labels = noisy(4000, 3, factor)
    temperature = fit_temperature(logits, labels)
    assert temperature == pytest.approx(factor, rel=0.1)
    before, after = (calibration(labels, answers_of(z)) for z in (logits, logits / temperature))
    assert before and after and after["ece"] < 0.03 and (factor == 1 or after["ece"] < before["ece"] / 3)
    # scikit-learn's own fit on the same rows, through a classifier whose logits these are
    identity = LogisticRegression().fit(logits, labels)
    identity.coef_, identity.intercept_ = np.eye(3), np.zeros(3)
    theirs = CalibratedClassifierCV(FrozenEstimator(identity), method="temperature").fit(logits, labels)
    np.testing.assert_allclose(theirs.predict_proba(logits), answers_of(logits / temperature), atol=2e-3)


def test_the_temperature_of_labels_is_the_least_loss() -> None:
    random = np.random.default_rng(2)
    logits = random.standard_normal((3000, 2))
    labels = (random.random((3000, 2)) < answers_of(logits, MULTI_LABEL)).astype(int)
    temperature = fit_temperature(3 * logits, labels, MULTI_LABEL)
    assert temperature == pytest.approx(3, rel=0.1)
    losses = [
        mean_loss(3 * logits / t, labels, MULTI_LABEL) for t in (0.95 * temperature, temperature, 1.05 * temperature)
    ]
    assert losses[1] == min(losses)


@pytest.mark.parametrize("metric", ["f1", "f1_macro", "accuracy"])
def test_a_chosen_threshold_is_the_best_of_all(metric: Any) -> None:
    from sklearn.metrics import accuracy_score, f1_score

    random = np.random.default_rng(3)
    labels = (random.random(200) < 0.2).astype(int)
    given = np.round(20 * np.clip(0.3 * labels + 0.5 * random.random(200), 0, 1)) / 20  # with ties
    score = {
        "f1": lambda said: f1_score(labels, said),
        "f1_macro": lambda said: f1_score(labels, said, average="macro"),
        "accuracy": lambda said: accuracy_score(labels, said),
    }[metric]
    (threshold,) = choose_thresholds(labels, np.stack([1 - given, given], axis=1), metric)
    assert score(given > threshold) == pytest.approx(max(score(given > t) for t in np.arange(0.025, 1, 0.05)))
    both = choose_thresholds(np.stack([labels, 0 * labels], 1), np.stack([given, given], 1), metric, MULTI_LABEL)
    assert both == (threshold, 0.5), "a label that never occurs says nothing"
    with pytest.raises(ValueError, match="two classes"):
        choose_thresholds(labels, np.ones((200, 3)) / 3, metric)


def test_lengths_are_counted_apart_and_cut_texts_too() -> None:
    answers = np.array([[0.9, 0.1]] * 5)
    labels, cut = np.array([0, 0, 1, 0, 1]), np.array([False] * 4 + [True])
    read, whole = np.array([10, 64, 65, 100, 100]), np.array([10, 64, 65, 100, 400])

    def shown(**given: Any) -> list[tuple[Any, ...]]:
        slices = by_length(labels, answers, read, cut, **given)["slices"]
        return [tuple(one[name] for name in ("from", "to", "truncated", "rows", "value")) for one in slices]

    short = [(1, 64, False, 2, 1.0), (65, 128, False, 2, 0.5)]
    assert shown(tokens_in_text=whole) == [*short, (257, 512, True, 1, 0.0)]
    assert shown() == [*short, (101, None, True, 1, 0.0)], "how long a cut text was is not always known"
    found = by_length(labels, answers, read, cut)
    assert found["measure"] == "accuracy"
    low, high = (found["slices"][0][name] for name in ("low", "high"))
    assert (low, high) == (pytest.approx(0.342, abs=1e-3), 1.0), "Wilson's interval of 2 of 2"
    none, said = np.zeros(2, bool), np.array([[1.5], [2.0]])
    numbers = by_length(np.array([1.0, 3.0]), said, np.array([5, 6]), none, problem_type=REGRESSION)
    assert (numbers["measure"], numbers["slices"][0]["value"]) == ("mae", 0.75)


def examples(labels: np.ndarray, texts: list[str]) -> Examples:
    return Examples("mine", "test", texts, None, labels, 10 + np.arange(len(texts)), ("ham", "spam"), "0")


def test_the_worst_mistakes_come_first_with_their_texts_escaped() -> None:
    rows = examples(np.array([0, 0, 1, 1]), ["right", "<script>alert(1)</script>", "a\x1b[31m\nb", "x"])
    answers = np.array([[0.9, 0.1], [0.01, 0.99], [0.7, 0.3], [0.55, 0.45]])
    found = worst_mistakes(rows, answers, rows.label_names, 2, problem_type=SINGLE_LABEL)
    assert [(m.row, m.label, m.predicted, m.size) for m in found] == [
        (11, "ham", "spam", 0.99),
        (12, "spam", "ham", 0.7),
    ]
    assert "\x1b" not in found[1].line() and "\n" not in found[1].line() and "[31m b" in found[1].line()
    page = mistakes_page(found, "mine", wrong=3, rows=4)
    assert "<script>alert" not in page and "&lt;script&gt;" in page and "3 wrong answers to 4" in page


def test_mistakes_of_labels_and_numbers_are_told_in_words() -> None:
    of_labels = examples(np.array([[1, 0], [1, 1]]), ["a", "b"])
    (found,) = worst_mistakes(of_labels, np.array([[0.8, 0.1], [0.1, 0.4]]), ("x", "y"), 5, problem_type=MULTI_LABEL)
    assert (found.label, found.predicted, round(found.size, 3)) == ("x, y", "no label", 0.9)
    numbers = examples(np.array([1.0, 2.0]), ["a", "b"])
    found = worst_mistakes(numbers, np.array([[1.5], [5.0]]), (), 1, problem_type=REGRESSION)[0]
    assert (found.label, found.predicted, found.size) == ("2", "5", 3.0)
