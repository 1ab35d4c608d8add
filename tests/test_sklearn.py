"""The estimator in scikit-learn's own hands."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import cloudpickle
import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.validation import check_is_fitted, validate_data

import longread
from longread.sklearn import LongreadClassifier, LongreadRegressor

GOOD, BAD = "a warm and lovely film", "it crashes at once"
TEXTS = np.array([f"{GOOD if n % 3 else BAD} {n}" for n in range(36)])
LABELS = np.array(["good" if n % 3 else "bad" for n in range(36)])
SMALL = {"epochs": 6, "batch_size": 6, "hidden_size": 16, "num_attention_heads": 2, "max_length": 64, "threads": 1,
         "learning_rate": 1e-2, "settings": {"vocab_size": 300, "lowercase": True}}  # fmt: skip

# Checks that no model of texts can pass, and why.
OUT_OF_REACH = {
    "check_classifiers_train": "asks for 83 % on points of a plane, which an epoch does not learn from their digits",
    "check_regressors_train": "asks for an R² of .5 on such points",
}


def small(**given: object) -> LongreadClassifier:
    return LongreadClassifier("performer", **(SMALL | given))


def test_it_is_at_hand_in_the_package() -> None:
    assert longread.LongreadClassifier is LongreadClassifier and longread.LongreadRegressor is LongreadRegressor


def test_it_learns_and_its_columns_are_in_the_order_of_classes() -> None:
    model = small().fit(TEXTS.tolist(), LABELS)
    assert model.classes_.tolist() == ["bad", "good"]
    assert model.score(TEXTS, LABELS) == 1.0
    probabilities = model.predict_proba(TEXTS[:, None])
    assert probabilities.shape == (36, 2) and np.allclose(probabilities.sum(1), 1)
    again = small().fit(TEXTS, LABELS)
    assert np.array_equal(again.predict_proba(TEXTS), probabilities)
    numbered = small().fit(TEXTS, np.where(LABELS == "good", 7, 3))
    assert numbered.classes_.tolist() == [3, 7] and set(numbered.predict(TEXTS)) == {3, 7}
    restored = pickle.loads(pickle.dumps(model))
    assert np.array_equal(restored.predict_proba(TEXTS), probabilities)


def test_clone_search_and_pipelines() -> None:
    search = GridSearchCV(small(epochs=1), {"learning_rate": [1e-2, 1e-3]}, cv=2).fit(TEXTS, LABELS)
    assert set(search.best_params_) == {"learning_rate"}
    assert len(cross_val_score(clone(small(epochs=1)), TEXTS, LABELS, cv=2)) == 2
    pipe = make_pipeline(FunctionTransformer(np.char.lower), small(epochs=1)).fit(TEXTS, LABELS)
    assert pipe.predict(TEXTS).shape == (36,)


def test_several_labels_are_an_indicator_matrix() -> None:
    y = np.stack([LABELS == "good", LABELS == "bad", np.zeros(len(LABELS))], axis=1).astype(int)
    model = small().fit(TEXTS, y)
    probabilities, predicted = model.predict_proba(TEXTS), model.predict(TEXTS)
    assert probabilities.shape == predicted.shape == (36, 3) and model.classes_.tolist() == [0, 1, 2]
    assert np.array_equal(predicted, probabilities > 0.5) and model.score(TEXTS, y) > 0.9
    assert np.array_equal(pickle.loads(pickle.dumps(model)).predict(TEXTS), predicted)


def test_numbers_of_any_size() -> None:
    prices = np.where(LABELS == "good", 5000.0, 1000.0)
    model = clone(LongreadRegressor("performer", **SMALL)).fit(TEXTS, prices)
    assert model.score(TEXTS, prices) > 0.9
    assert np.array_equal(pickle.loads(pickle.dumps(model)).predict(TEXTS), model.predict(TEXTS))
    assert np.isnan(model.predict([" "])).all()


@pytest.mark.parametrize(
    ("texts", "labels", "told"),
    [
        ("one text", ["a"], "list of texts"),
        ([None, "a"], [0, 1], r"X\[0\] is None"),
        (["a", "b"], [0], "one label for each"),
        (["a", " ", "b", ""], [0, 1, 1, 0], r"X\[1\] is empty, and 1 more; leave such texts out"),
        (["a", "b"], [0, 0], "one class, '0'"),
        ([["a", "b"]], [0], "shape"),
        (["a", "b"], [[0, 2], [1, 0]], "holds 0 or 1"),
    ],
)
def test_wrong_input_is_told(texts: object, labels: object, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        small().fit(texts, labels)


@pytest.mark.parametrize(
    ("texts", "numbers", "told"),
    [(["a"], [1.0], "one sample"), (["a", "b"], [2.5, 2.5], "holds 2.5 for each"), (["a"], [np.nan], "finite number")],
)
def test_numbers_that_cannot_be_learned_are_told(texts: list[str], numbers: list[float], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        LongreadRegressor().fit(texts, numbers)


def test_settings_cannot_hide_a_parameter() -> None:
    with pytest.raises(ValueError, match="epochs"):
        small(settings={"epochs": 3}).fit(TEXTS, LABELS)


def test_messages_name_the_classes_as_the_user_does(caplog: pytest.LogCaptureFixture) -> None:
    y = np.array(["rare"] * 2 + ["often"] * 34)
    with caplog.at_level("WARNING", "longread"):
        small(epochs=1).fit(TEXTS, y)
    assert "often 34, rare 2" in caplog.text and "000" not in caplog.text


@pytest.mark.parametrize("classes", [["10", "9"], ["b", " "], [True, False], [1.0, 2.0], ["x\ny", "x y"], [-3, 20]])
def test_classes_of_any_kind_keep_their_columns(classes: list[Any]) -> None:
    y = np.array([classes[0] if n % 3 else classes[1] for n in range(36)])
    model = small(settings={"vocab_size": 300, "choose_threshold": "accuracy"}).fit(TEXTS, y)
    assert model.score(TEXTS, y) == 1.0 and model.classes_.tolist() == np.unique(y).tolist()
    assert np.array_equal(model.classes_[model.predict_proba(TEXTS).argmax(1)], y)


def test_joblib_keeps_a_model_and_cloudpickle_carries_it(tmp_path: Path) -> None:
    model = small(epochs=1).fit(TEXTS, LABELS)
    joblib.dump(model, tmp_path / "model.joblib")
    expected = model.predict_proba(TEXTS)
    assert np.array_equal(joblib.load(tmp_path / "model.joblib").predict_proba(TEXTS), expected)
    assert np.array_equal(cloudpickle.loads(cloudpickle.dumps(model)).predict_proba(TEXTS), expected)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # joblib's own, of its processes
def test_worker_processes_search_a_grid() -> None:
    search = GridSearchCV(small(epochs=1), {"learning_rate": [1e-2, 1e-3]}, cv=2, n_jobs=2).fit(TEXTS, LABELS)
    assert search.predict(TEXTS).shape == (36,)


class _Numbers:
    """The estimator behind numbers: scikit-learn's checks bring arrays, which become texts of their digits."""

    def fit(self, X: Any, y: Any) -> Any:
        X, y = validate_data(self, X, y, multi_output=np.asarray(y).shape[1:] > (1,))
        return super().fit(_words(X), y)  # type: ignore[misc]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.input_tags.two_d_array, tags.input_tags.one_d_array, tags.no_validation = True, False, False
        tags.input_tags.string = False
        return tags


class Worded(_Numbers, LongreadClassifier):
    def predict_proba(self, X: Any) -> np.ndarray:
        check_is_fitted(self, "classes_")
        return super().predict_proba(_words(validate_data(self, X, reset=False)))


class WordedRegressor(_Numbers, LongreadRegressor):
    def predict(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return super().predict(_words(validate_data(self, X, reset=False)))


def _words(X: np.ndarray) -> list[str]:
    return [" ".join("-+"[int(value > 0)] * min(9, 1 + int(abs(value))) for value in row) for row in X]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Worded, WordedRegressor])
def test_scikit_learns_own_checks(kind: Any) -> None:
    estimator = kind("performer", **(SMALL | {"epochs": 1}))
    found = check_estimator(estimator, on_skip=None, on_fail=None, expected_failed_checks=OUT_OF_REACH)
    wrong = {check["check_name"]: check["exception"] for check in found if check["status"] == "failed"}
    assert not wrong
    assert sum(check["status"] == "passed" for check in found) > 40


def test_nothing_is_said_of_the_temporary_folder(caplog: pytest.LogCaptureFixture) -> None:
    texts = [f"film {n}" for n in range(8)]
    model = LongreadClassifier("tfidf")
    with caplog.at_level("INFO", "longread"):
        with pytest.raises(ValueError, match=r"^y: no row has any of the labels"):
            model.fit(texts, np.zeros((8, 2), dtype=int))
        model.fit(texts, np.array([[n % 2, 0] for n in range(8)]))
    assert "y: no row has the label label_1; it cannot be learned" in caplog.messages
    assert not [message for message in caplog.messages if "/" in message]
