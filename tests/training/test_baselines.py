"""The linear baselines: known answers, no peeking, and what they reach on real and on generated reviews."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from longread.data.config import DataConfig
from longread.data.examples import Examples
from longread.data.load import load_task
from longread.errors import UserError
from longread.training.baselines import BASELINES, fit_predict

DATA_DIR = os.environ.get("LONGREAD_DATA_DIR", "")


def examples(texts: list[str], labels: list[int], pairs: list[str] | None = None, classes: int = 2) -> Examples:
    names = tuple("abcdefgh"[:classes])
    return Examples("t", "train", texts, pairs, np.array(labels), np.arange(len(texts)), names)


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("classes", [2, 3])
def test_learns_what_one_word_tells(name: str, classes: int) -> None:
    words = ["dull", "fine", "odd"][:classes]
    labels = [row % classes for row in range(60)]
    train = examples([f"film {row} was {words[label]}" for row, label in enumerate(labels)], labels, None, classes)
    unseen = examples([f"a {word} play" for word in words], list(range(classes)), None, classes)
    result = fit_predict(name, train, unseen)
    assert result.probabilities.shape == (classes, classes)
    np.testing.assert_allclose(result.probabilities.sum(axis=1), 1)
    assert result.probabilities.argmax(axis=1).tolist() == unseen.labels.tolist()
    assert result.num_features > 60
    assert result.train_seconds > 0
    assert result.eval_seconds > 0


@pytest.mark.parametrize("name", BASELINES)
def test_pairs_are_features_side_by_side(name: str) -> None:
    """The same word counts for one class on the left and for the other on the right."""
    left = ["red", "blue"] * 20
    right = ["blue", "red"] * 20
    train = examples(left, [0, 1] * 20, right)
    result = fit_predict(name, train, examples(["red", "blue"], [0, 1], ["blue", "red"]))
    assert result.probabilities.argmax(axis=1).tolist() == [0, 1]
    assert result.num_features == 4


@pytest.mark.parametrize("name", BASELINES)
def test_evaluation_rows_change_nothing(name: str) -> None:
    """A row's prediction does not depend on which rows, or which labels, are evaluated beside it."""
    train, evaluation = load_task(DataConfig("reviews", train_rows=200, eval_rows=40))
    alone = fit_predict(name, train, evaluation.take(np.arange(3)))
    flipped = Examples("t", "v", evaluation.texts, None, 1 - evaluation.labels, evaluation.rows, ("a", "b"))
    together = fit_predict(name, train, flipped)
    np.testing.assert_array_equal(alone.probabilities, together.probabilities[:3])


def test_wrong_input_is_one_line() -> None:
    train = examples([" ", ""], [0, 1])
    with pytest.raises(UserError, match="unknown baseline 'svm'; there are tfidf, nbsvm"):
        fit_predict("svm", train, train)
    with pytest.raises(UserError, match="no word in its train texts"):
        fit_predict("tfidf", train, train)


@pytest.mark.parametrize("name", BASELINES)
def test_counting_words_does_not_decide_generated_reviews(name: str) -> None:
    """Better than chance, as the easy reviews are easy, and far from what an attention model reaches."""
    train, evaluation = load_task(DataConfig("reviews", train_rows=2000))
    accuracy = (fit_predict(name, train, evaluation).probabilities.argmax(axis=1) == evaluation.labels).mean()
    assert 0.60 <= accuracy <= 0.76


@pytest.mark.skipif(not DATA_DIR, reason="LONGREAD_DATA_DIR is not set: no real reviews here")
@pytest.mark.parametrize("name", BASELINES)
def test_real_reviews(name: str) -> None:
    if not (Path(DATA_DIR) / "imdb").is_dir():
        pytest.skip("LONGREAD_DATA_DIR holds no imdb")
    train, evaluation = load_task(DataConfig("imdb", data_dir=DATA_DIR, train_rows=1000, eval_rows=500))
    accuracy = (fit_predict(name, train, evaluation).probabilities.argmax(axis=1) == evaluation.labels).mean()
    assert accuracy >= 0.78
