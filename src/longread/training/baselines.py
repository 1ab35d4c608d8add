"""What a transformer has to beat: the most frequent class, TF-IDF with logistic regression, and NB-SVM.

NB-SVM: Wang and Manning 2012, "Baselines and Bigrams", equations 1 to 3. Nothing here is chosen on the rows
that are evaluated: every setting is fixed below.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from longread.config import BASELINES
from longread.data.examples import Examples
from longread.errors import UserError
from longread.models.linear import NGRAMS, WORD, Floats, LinearModel, weigh

TFIDF_C = 10.0  # inverse regularisation; the usual choice for TF-IDF of unit length
SMOOTHING = 1.0  # alpha of NB-SVM
NBSVM_C = 0.1  # C = 1 is the paper's for a hinge loss; the logistic loss gives probabilities and wants less
INTERPOLATION = 0.25  # beta of NB-SVM, the paper's: trained weights against their mean magnitude
MAX_ITERATIONS = 1000


def fit(name: str, train: Examples, seed: int = 0) -> LinearModel:
    """Baseline `name` of the training rows; a pair's two texts are two sets of features side by side.

    `seed` is the solver's; what it fits is convex. Raises `UserError` for a name that is none of `BASELINES` and for
    texts without a word.
    """
    if name not in BASELINES:
        raise UserError(f"unknown baseline {name!r}; there are {', '.join(BASELINES)}")
    classes = len(train.label_names)
    if name == "majority":
        return _majority(train)
    counts, vocabularies = _count(train)
    idf = None
    if name == "tfidf":
        present = np.bincount(counts.indices, minlength=counts.shape[1])  # rows that have a term
        idf = np.log((1 + counts.shape[0]) / (1 + present)) + 1
    features = weigh(counts, [len(terms) for terms in vocabularies], idf)
    fit_one = _fit_tfidf if name == "tfidf" else _fit_nbsvm
    fitted = [fit_one(features, positive, seed) for positive in _one_vs_rest(train.labels, classes)]
    weights = np.stack([weight for weight, _ in fitted])
    return LinearModel(name, vocabularies, weights, np.array([bias for _, bias in fitted]), idf, train.label_names)


def _majority(train: Examples) -> LinearModel:
    """No terms; the scores are the logarithms of the classes' frequencies."""
    counts = np.bincount(train.labels, minlength=len(train.label_names))
    scores = np.log(np.maximum(counts, 0.5) / len(train))  # half a row of a class that has none
    bias = scores[1:] - scores[:1] if len(scores) == 2 else scores
    sides = 1 if train.pairs is None else 2
    return LinearModel("majority", ((),) * sides, np.zeros((len(bias), 0)), bias, None, train.label_names)


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


def _regression(c: float, features: Any, positive: npt.NDArray[np.bool_], seed: int) -> tuple[Floats, float]:

    dual = features.shape[1] > features.shape[0]  # the quicker way round; the optimum is the same
    solver = LogisticRegression(C=c, solver="liblinear", dual=dual, max_iter=MAX_ITERATIONS, random_state=seed)
    solver.fit(features, positive)
    return solver.coef_[0], float(solver.intercept_[0])


def _fit_tfidf(features: Any, positive: npt.NDArray[np.bool_], seed: int) -> tuple[Floats, float]:
    return _regression(TFIDF_C, features, positive, seed)


def _fit_nbsvm(features: Any, positive: npt.NDArray[np.bool_], seed: int) -> tuple[Floats, float]:
    inside = SMOOTHING + np.asarray(features[positive].sum(axis=0)).ravel()
    outside = SMOOTHING + np.asarray(features[~positive].sum(axis=0)).ravel()
    ratio = np.log(inside / inside.sum()) - np.log(outside / outside.sum())
    trained, bias = _regression(NBSVM_C, features.multiply(ratio).tocsr(), positive, seed)
    return ratio * ((1 - INTERPOLATION) * np.abs(trained).mean() + INTERPOLATION * trained), bias


def _one_vs_rest(labels: npt.NDArray[np.int64], classes: int) -> list[npt.NDArray[np.bool_]]:
    """For each class which rows are of it; for two classes only the second, whose score decides."""
    return [labels == 1] if classes == 2 else [labels == label for label in range(classes)]
