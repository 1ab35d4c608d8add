"""Models of texts with scikit-learn's interface: fit, predict, predict_proba, clone, pickle, grid search, pipelines.

from longread.sklearn import LongreadClassifier, LongreadRegressor
LongreadClassifier(attention="longformer", epochs=3).fit(texts, labels).predict_proba(texts)
LongreadRegressor(attention="longformer", epochs=3).fit(texts, prices).predict(texts)
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from longread.config import RunConfig
from longread.errors import UserError
from longread.inference.metrics import predicted_of
from longread.inference.predictor import Predictor, load
from longread.problems import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from longread.training.run import train

log = logging.getLogger("longread")

FEW = 8  # rows that are evaluated where no class needs one


class _TextEstimator(BaseEstimator):  # type: ignore[misc]
    """What a classifier and a regressor of texts share: the parameters, the training, the checkpoint in memory."""

    def __init__(
        self,
        attention: str = "longformer",
        *,
        init: str = "scratch",
        epochs: int | None = None,
        learning_rate: float | None = None,
        batch_size: int = 32,
        max_length: int | None = None,
        num_hidden_layers: int = 1,
        hidden_size: int = 64,
        num_attention_heads: int = 4,
        threads: int | None = None,
        settings: Mapping[str, Any] | None = None,
        random_state: int = 0,
    ) -> None:
        self.attention = attention
        self.init = init
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.max_length = max_length
        self.num_hidden_layers = num_hidden_layers
        self.hidden_size = hidden_size
        self.num_attention_heads = num_attention_heads
        self.threads = threads
        self.settings = settings
        self.random_state = random_state

    def _train(self, texts: list[str], columns: Mapping[str, Any], few: npt.NDArray[np.int64], **problem: Any) -> None:
        """`columns` hold the labels of the texts. The rows `few` are evaluated, because the trainer wants some: nothing
        is chosen by them."""
        empty = [place for place, text in enumerate(texts) if not text.strip()]
        if empty:
            more = f", and {len(empty) - 1} more" if len(empty) > 1 else ""
            raise ValueError(f"X[{empty[0]}] is empty{more}; leave such texts out, and their rows of y")
        with _folder() as place:
            _write(place / "task" / "train.parquet", texts, columns)
            some = {name: np.asarray(values)[few] for name, values in columns.items()}
            _write(place / "task" / "validation.parquet", [texts[i] for i in few], some)
            run = train(self._config(place, label_columns=tuple(columns), **problem))
            if run.record["status"] != "ok":
                raise RuntimeError(f"the training ended badly: {run.record['status']}: {run.record['error']}")
            checkpoint = run.directory / "checkpoint"
            self._files = {path.name: path.read_bytes() for path in checkpoint.iterdir() if path.is_file()}
            self.predictor_ = load(checkpoint)

    def _config(self, place: Path, **problem: Any) -> RunConfig:
        own = {"task", "out", "data_dir", "text_columns", "label_columns", "label_separator", "problem_type",
               "eval_file", "seed", *self.get_params()}  # fmt: skip
        wrong = sorted(set(self.settings or {}) & own)
        if wrong:
            raise UserError(
                f"settings: {', '.join(wrong)} cannot be set there; it is a parameter, or the estimator's own"
            )
        given = {f.name: getattr(self, f.name) for f in fields(RunConfig) if f.name in self.get_params()}
        return RunConfig(
            **given, **problem, **(self.settings or {}),
            task=str(place / "task"), text_columns=("text",), seed=self.random_state, out=place / "out",
        )  # fmt: skip

    def _predictor(self) -> Predictor:
        if getattr(self, "predictor_", None) is None:
            with _folder() as place:
                for name, content in self._files.items():
                    (place / name).write_bytes(content)
                self.predictor_ = load(place)
        return self.predictor_

    def __getstate__(self) -> dict[str, Any]:
        """The checkpoint's files stand for the model, so that a pickle holds no code of torch."""
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name != "predictor_"}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = True
        tags.input_tags.string = True
        tags.non_deterministic = False
        tags.no_validation = True
        return tags


class LongreadClassifier(ClassifierMixin, _TextEstimator):  # type: ignore[misc]
    """One class for each text, or any of several labels.

    Trains as `longread train` does; every option of that command is a parameter or a key of `settings`.

    Parameters
    ----------
    attention:
        dense, longformer, bigbird, performer or linformer.
    init:
        "scratch", or a pretrained checkpoint to fine-tune.
    epochs, learning_rate, batch_size, max_length:
        As in `longread train`; None for its defaults.
    num_hidden_layers, hidden_size, num_attention_heads:
        Of a model from scratch.
    threads:
        Processor threads; None for all cores.
    settings:
        Any other field of `longread.RunConfig`, the mechanism's own among them, such as {"attention_window": 64}.
    random_state:
        Seed of the first weights and of the order of the texts.

    Attributes
    ----------
    classes_: the labels seen in `fit`, sorted; columns of `predict_proba` are in their order. Of several labels the
        numbers of the columns of y.
    predictor_: the trained `longread.Predictor`.
    """

    def fit(self, X: Any, y: Any) -> LongreadClassifier:
        """X: n texts (a list, an array or a column of a table). y: n labels of two classes or more, or 0 and 1
        [n, number of labels], where a text may have several.

        ValueError for anything else, and for what `longread train` refuses.
        """
        texts = _texts(X)
        labels = np.asarray(y)
        if labels.ndim not in (1, 2) or len(labels) != len(texts):
            raise ValueError(f"y has shape {labels.shape}; it must hold one label for each of the {len(texts)} texts")
        if labels.ndim == 2:
            return self._fit_several(texts, labels)
        check_classification_targets(labels)
        classes, numbers = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(f"y has one class, {str(classes[0])!r}; a classifier needs two or more")
        few = np.unique(numbers, return_index=True)[1]
        names = _names(classes)
        self._train(texts, {"label": np.array(names)[numbers]}, few, problem_type=SINGLE_LABEL)
        self.classes_ = classes
        # The trainer sorts names, scikit-learn classes.
        self._order = np.array([self.predictor_.label_names.index(name) for name in names])
        return self

    def _fit_several(self, texts: list[str], labels: npt.NDArray[Any]) -> LongreadClassifier:
        if not np.isin(labels, (0, 1)).all():
            raise ValueError(f"y has shape {labels.shape}; a column for each label holds 0 or 1")
        columns = {f"label_{place}": column.astype(np.int64) for place, column in enumerate(labels.T)}
        few = np.arange(min(len(texts), FEW))
        self._train(texts, columns, few, problem_type=MULTI_LABEL)
        self.classes_ = np.arange(labels.shape[1])
        self._order = self.classes_
        return self

    def predict_proba(self, X: Any) -> npt.NDArray[np.float64]:
        """[n, number of classes], columns in the order of `classes_`. Of several labels each by itself."""
        check_is_fitted(self, "classes_")
        return self._predictor().predict_proba(_texts(X))[:, self._order]

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """[n] classes; of several labels 0 and 1 [n, number of labels]."""
        probabilities = self.predict_proba(X)
        empty = np.flatnonzero(np.isnan(probabilities).any(axis=1))
        if len(empty):
            raise ValueError(f"X[{empty[0]}] is empty: it has no class; predict_proba gives NaN for it")
        predictor, place = self._predictor(), np.argsort(self._order)  # of the predictor's labels among the classes
        thresholds = predictor.decision.of(predictor.label_names)
        found = predicted_of(probabilities[:, place], predictor.problem_type, thresholds).astype(np.int64)
        return found if predictor.problem_type == MULTI_LABEL else self.classes_[place[found]]  # type: ignore[no-any-return]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class LongreadRegressor(RegressorMixin, _TextEstimator):  # type: ignore[misc]
    """A number for each text; the parameters are those of `LongreadClassifier`.

    Attributes
    ----------
    predictor_: the trained `longread.Predictor`.
    """

    def fit(self, X: Any, y: Any) -> LongreadRegressor:
        """X: n texts (a list, an array or a column of a table). y: n numbers.

        ValueError for anything else, and for what `longread train` refuses.
        """
        texts = _texts(X)
        numbers = np.asarray(y, dtype=np.float64)
        if numbers.shape != (len(texts),):
            raise ValueError(f"y has shape {numbers.shape}; it must hold one number for each of the {len(texts)} texts")
        if not (finite := np.isfinite(numbers)).all():
            place = int(np.argmin(finite))
            raise ValueError(f"y[{place}] is {numbers[place]}; it must be a finite number")
        if len(texts) < 2:
            raise ValueError("X has one sample; a regressor needs two or more texts, with different numbers")
        if np.ptp(numbers) == 0:
            raise ValueError(f"y holds {numbers[0]:g} for each of the {len(texts)} texts; there is nothing to learn")
        self._train(texts, {"number": numbers}, np.arange(min(len(texts), FEW)), problem_type=REGRESSION)
        return self

    def predict(self, X: Any) -> npt.NDArray[np.float64]:
        """[n] numbers; NaN for an empty text."""
        check_is_fitted(self, "_files")
        found = self._predictor().predict(_texts(X))
        return np.array([np.nan if one.value is None else one.value for one in found], dtype=np.float64)


@contextmanager
def _folder() -> Iterator[Path]:
    """A temporary one that nobody hears of: what is said of the rows in it is said of y."""
    with tempfile.TemporaryDirectory(prefix="longread-") as directory:
        rows = str(Path(directory) / "task" / "train.parquet")

        def of_y(record: logging.LogRecord) -> bool:
            record.msg, record.args = record.getMessage().replace(rows, "y"), None
            return directory not in record.msg

        log.addFilter(of_y)
        try:
            yield Path(directory)
        except UserError as error:
            raise UserError(str(error).replace(rows, "y")) from None
        finally:
            log.removeFilter(of_y)


def _names(classes: npt.NDArray[Any]) -> list[str]:
    """How messages call the classes: as they are written, or by number where that is not one plain name each."""
    names = [" ".join(str(one).split()) for one in classes]
    if len(set(names)) == len(names) and all(name and name.isprintable() for name in names):
        return names
    return [f"class {number}" for number in range(len(names))]


def _texts(X: Any) -> list[str]:
    if isinstance(X, str):
        raise ValueError("X is one text; give a list of texts")
    values = np.asarray(X, dtype=object)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise ValueError(f"X has shape {values.shape}; it must hold one text each: a list, or a column of a table")
    for place, text in enumerate(values):
        if not isinstance(text, str):
            raise ValueError(f"X[{place}] is {text!r} ({type(text).__name__}); it must be a text")
    return [str(text) for text in values]


def _write(path: Path, texts: Sequence[str], columns: Mapping[str, Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"text": list(texts), **{name: pa.array(list(v)) for name, v in columns.items()}}), path)
