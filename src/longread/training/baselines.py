"""Linear models that a transformer has to beat: TF-IDF with logistic regression, and NB-SVM.

NB-SVM: Wang and Manning 2012, "Baselines and Bigrams", equations 1 to 3. Nothing here is chosen on the rows
that are evaluated: every setting is fixed below.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from longread.data.examples import Examples
from longread.errors import UserError

BASELINES = ("tfidf", "nbsvm")

NGRAMS = (1, 2)  # words and pairs of words
TFIDF_C = 10.0  # inverse regularisation; the usual choice for TF-IDF of unit length
SMOOTHING = 1.0  # alpha of NB-SVM
NBSVM_C = 0.1  # C = 1 is the paper's for a hinge loss; the logistic loss gives probabilities and wants less
INTERPOLATION = 0.25  # beta of NB-SVM, the paper's: trained weights against their mean magnitude
MAX_ITERATIONS = 1000


@dataclass(frozen=True)
class BaselineResult:
    probabilities: npt.NDArray[np.float64]  # [R, C], rows of the evaluation split
    train_seconds: float  # features and fit
    eval_seconds: float  # features and prediction
    num_features: int


def fit_predict(name: str, train: Examples, evaluation: Examples, seed: int = 0) -> BaselineResult:
    """Fit baseline `name` on `train` and predict `evaluation`.

    A pair's two texts are two sets of features side by side. `seed` is the solver's; what it fits is convex.
    Raises `UserError` for a name that is none of `BASELINES` and for texts without a word.
    """
    if name not in BASELINES:
        raise UserError(f"unknown baseline {name!r}; there are {', '.join(BASELINES)}")
    num_classes = len(train.label_names)
    begin = time.perf_counter()
    features = _Features(name, train)
    fitted = (_fit_tfidf if name == "tfidf" else _fit_nbsvm)(features.matrix(train), train.labels, num_classes, seed)
    between = time.perf_counter()
    probabilities = fitted(features.matrix(evaluation))
    return BaselineResult(probabilities, between - begin, time.perf_counter() - between, features.count)


class _Features:
    """Word n-grams of a text, or of both texts of a pair; the vocabulary is the train split's."""

    def __init__(self, name: str, train: Examples) -> None:
        from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

        # Words of one letter and marks such as "!" count too: "I", "a", "not !" tell more than nothing.
        shared: dict[str, Any] = {"ngram_range": NGRAMS, "token_pattern": r"\w+|[^\w\s]"}
        self.vectorizers = []
        for texts in self._sides(train):
            if name == "tfidf":
                vectorizer = TfidfVectorizer(sublinear_tf=True, dtype=np.float64, **shared)
            else:
                vectorizer = CountVectorizer(binary=True, dtype=np.float64, **shared)
            try:
                self.vectorizers.append(vectorizer.fit(texts))
            except ValueError as error:  # scikit-learn: "empty vocabulary"
                raise UserError(f"task {train.task}: there is no word in its {train.split} texts") from error
        self.count = sum(len(vectorizer.vocabulary_) for vectorizer in self.vectorizers)

    def matrix(self, examples: Examples) -> Any:
        from scipy.sparse import csr_matrix, hstack

        parts = zip(self.vectorizers, self._sides(examples), strict=True)
        return csr_matrix(hstack([vectorizer.transform(texts) for vectorizer, texts in parts]))

    @staticmethod
    def _sides(examples: Examples) -> list[list[str]]:
        return [examples.texts] if examples.pairs is None else [examples.texts, examples.pairs]


def _regression(c: float, features: Any, labels: Any, seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression

    dual = features.shape[1] > features.shape[0]  # the quicker way round; the optimum is the same
    solver = LogisticRegression(C=c, solver="liblinear", dual=dual, max_iter=MAX_ITERATIONS, random_state=seed)
    return solver.fit(features, labels)


def _fit_tfidf(features: Any, labels: Any, num_classes: int, seed: int) -> Any:
    models = [_regression(TFIDF_C, features, positive, seed) for positive in _one_vs_rest(labels, num_classes)]
    return lambda rows: _probabilities([model.decision_function(rows) for model in models])


def _fit_nbsvm(features: Any, labels: Any, num_classes: int, seed: int) -> Any:
    weights = []
    for positive in _one_vs_rest(labels, num_classes):
        inside = SMOOTHING + np.asarray(features[positive].sum(axis=0)).ravel()
        outside = SMOOTHING + np.asarray(features[~positive].sum(axis=0)).ravel()
        ratio = np.log(inside / inside.sum()) - np.log(outside / outside.sum())
        model = _regression(NBSVM_C, features.multiply(ratio).tocsr(), positive, seed)
        trained = model.coef_[0]
        mixed = (1 - INTERPOLATION) * np.abs(trained).mean() + INTERPOLATION * trained
        weights.append((ratio * mixed, float(model.intercept_[0])))
    return lambda rows: _probabilities([rows @ weight + bias for weight, bias in weights])


def _one_vs_rest(labels: Any, num_classes: int) -> list[Any]:
    """For each class which rows are of it; for two classes only the second, whose score decides."""
    return [labels == 1] if num_classes == 2 else [labels == label for label in range(num_classes)]


def _probabilities(scores: list[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    """[R, C] from one score a class (softmax), or from the one of two classes (logistic function)."""
    columns = [np.zeros_like(scores[0]), scores[0]] if len(scores) == 1 else scores
    table = np.stack(columns, axis=1)
    table = np.exp(table - table.max(axis=1, keepdims=True))
    normalised: npt.NDArray[np.float64] = table / table.sum(axis=1, keepdims=True)
    return normalised
