"""What a transformer has to beat: the most frequent class, TF-IDF with logistic regression, and NB-SVM.

Of several labels each is learned against its absence. A number is predicted by ridge regression on TF-IDF, and by the
mean in place of the most frequent class; NB-SVM has no counterpart.

NB-SVM: Wang and Manning 2012, "Baselines and Bigrams", equations 1 to 3. Nothing here is chosen on the rows
that are evaluated: every setting is fixed below.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression, Ridge

from longread.config import BASELINES
from longread.data.examples import Examples
from longread.errors import UserError
from longread.models.linear import NGRAMS, WORD, Floats, LinearModel, check_kind, weigh
from longread.problems import MULTI_LABEL, REGRESSION

TFIDF_C = 10.0  # inverse regularisation; the usual choice for TF-IDF of unit length
RIDGE_ALPHA = 1.0  # scikit-learn's; rows are of unit length
SMOOTHING = 1.0  # alpha of NB-SVM
NBSVM_C = 0.1  # C = 1 is the paper's for a hinge loss; the logistic loss gives probabilities and wants less
INTERPOLATION = 0.25  # beta of NB-SVM, the paper's: trained weights against their mean magnitude
MAX_ITERATIONS = 1000


def fit(name: str, train: Examples, seed: int = 0, *, weights: Floats | None = None) -> LinearModel:
    """Baseline `name` of the training rows; a pair's two texts are two sets of features side by side.

    `seed` is the solver's; what it fits is convex. weights [C]: of each class's rows, or of the rows that have a label
    against those that have not. Raises `UserError` for a name that is none of `BASELINES`, for texts without a word,
    for NB-SVM of a regression, and for weights where nothing is fitted.
    """
    if name not in BASELINES:
        raise UserError(f"unknown baseline {name!r}; there are {', '.join(BASELINES)}")
    check_kind(name, train.problem_type, weighted=weights is not None)
    if name == "majority":
        return _constant(train)
    counts, vocabularies = _count(train)
    idf = None
    if name == "tfidf":
        present = np.bincount(counts.indices, minlength=counts.shape[1])  # rows that have a term
        idf = np.log((1 + counts.shape[0]) / (1 + present)) + 1
    features = weigh(counts, [len(terms) for terms in vocabularies], idf)
    if train.problem_type == REGRESSION:
        fitted = [_ridge(features, train.labels)]
    else:
        fit_one = _fit_tfidf if name == "tfidf" else _fit_nbsvm
        fitted = [fit_one(features, yes, seed, of_rows) for yes, of_rows in _one_vs_rest(train, weights)]
    return LinearModel(
        name, vocabularies, np.stack([weight for weight, _ in fitted]), np.array([bias for _, bias in fitted]), idf,
        train.label_names, train.problem_type,
    )  # fmt: skip


def _constant(train: Examples) -> LinearModel:
    """No terms: the logarithms of the classes' frequencies, the log odds of each label, or the mean."""
    sides = 1 if train.pairs is None else 2
    if train.problem_type == REGRESSION:
        bias = np.array([train.labels.mean()])
    elif train.problem_type == MULTI_LABEL:
        bias = np.array([_log_odds(column == 1) for column in train.labels.T])
    else:
        counts = np.bincount(train.labels, minlength=len(train.label_names))
        scores = np.log(np.maximum(counts, 0.5) / len(train))  # half a row of a class that has none
        bias = scores[1:] - scores[:1] if len(scores) == 2 else scores
    weights = np.zeros((len(bias), 0))
    return LinearModel("majority", ((),) * sides, weights, bias, None, train.label_names, train.problem_type)


def _log_odds(yes: npt.NDArray[np.bool_]) -> float:
    """Of a label's frequency; half a row where none or all have it."""
    rows = len(yes)
    inside = min(max(float(yes.sum()), 0.5), rows - 0.5)
    return float(np.log(inside / (rows - inside)))


def _count(train: Examples) -> tuple[Any, tuple[tuple[str, ...], ...]]:
    """How often each row has each term, sparse [R, F], and the terms of each text column; both in one go."""
    parts, vocabularies = [], []
    for texts in [train.texts] if train.pairs is None else [train.texts, train.pairs]:
        vectorizer = CountVectorizer(ngram_range=NGRAMS, token_pattern=WORD, dtype=np.float64)
        try:
            parts.append(vectorizer.fit_transform(texts))
        except ValueError as error:  # scikit-learn: "empty vocabulary"
            raise UserError(f"task {train.task}: there is no word in its {train.split} texts") from error
        vocabularies.append(tuple(map(str, vectorizer.get_feature_names_out())))
    return csr_matrix(hstack(parts)), tuple(vocabularies)


def _ridge(features: Any, numbers: Floats) -> tuple[Floats, float]:
    solver = Ridge(alpha=RIDGE_ALPHA, solver="sparse_cg", tol=1e-8)
    solver.fit(features, numbers)
    return solver.coef_, float(solver.intercept_)


def _logistic(
    c: float, features: Any, yes: npt.NDArray[np.bool_], seed: int, of_rows: Floats | None
) -> tuple[Floats, float]:
    if yes.all() or not yes.any():  # nothing to tell apart: the terms count nothing
        return np.zeros(features.shape[1]), _log_odds(yes)
    dual = features.shape[1] > features.shape[0]  # the quicker way round; the optimum is the same
    solver = LogisticRegression(C=c, solver="liblinear", dual=dual, max_iter=MAX_ITERATIONS, random_state=seed)
    solver.fit(features, yes, of_rows)
    return solver.coef_[0], float(solver.intercept_[0])


def _fit_tfidf(features: Any, yes: npt.NDArray[np.bool_], seed: int, of_rows: Floats | None) -> tuple[Floats, float]:
    return _logistic(TFIDF_C, features, yes, seed, of_rows)


def _fit_nbsvm(features: Any, yes: npt.NDArray[np.bool_], seed: int, of_rows: Floats | None) -> tuple[Floats, float]:
    inside = SMOOTHING + np.asarray(features[yes].sum(axis=0)).ravel()
    outside = SMOOTHING + np.asarray(features[~yes].sum(axis=0)).ravel()
    ratio = np.log(inside / inside.sum()) - np.log(outside / outside.sum())
    trained, bias = _logistic(NBSVM_C, features.multiply(ratio).tocsr(), yes, seed, of_rows)
    return ratio * ((1 - INTERPOLATION) * np.abs(trained).mean() + INTERPOLATION * trained), bias


def _one_vs_rest(train: Examples, weights: Floats | None) -> list[tuple[npt.NDArray[np.bool_], Floats | None]]:
    """For each class or label which rows are of it, and what they weigh; for two classes only the second, whose score
    decides."""
    if train.problem_type == MULTI_LABEL:
        columns = [column == 1 for column in train.labels.T]
        return [(yes, None if weights is None else np.where(yes, weights[c], 1.0)) for c, yes in enumerate(columns)]
    classes = len(train.label_names)
    of_rows = None if weights is None else weights[train.labels]
    return [(train.labels == label, of_rows) for label in ([1] if classes == 2 else range(classes))]
