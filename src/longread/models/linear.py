"""Linear models on words and pairs of words: from texts to counts to scores, and their files.

A checkpoint is config.json (labels, settings), vocabulary.json (the terms of each text column) and model.safetensors
(weights, bias and, for TF-IDF, the weight of each term), with the checksums of all three. Nothing is pickled.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from longread.data.tokenizer import Encoded
from longread.errors import UserError, first_line
from longread.models import weights as files
from longread.models.decision import DECISION, Decision
from longread.models.weights import VOCABULARY
from longread.problems import PROBLEM_TYPES, REGRESSION, SINGLE_LABEL, ProblemType
from longread.records import canonical, fingerprint

MODEL_TYPE = "longread-linear"

NGRAMS = (1, 2)  # words and pairs of words
# Words of one letter and marks such as "!" count too: "I", "a", "not !" tell more than nothing.
WORD = r"\w+|[^\w\s]"

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LinearModel:
    """F terms: those of the text, then those of its partner where a task has pairs. C labels.

    weights [K, F], bias [K]: one row a label, or a single one (K = 1) for two classes, whose score decides for the
    second; of a regression one row. idf [F]: what TF-IDF multiplies counts with; None: a term counts by being there
    (NB-SVM).
    """

    attention: str  # its name among the mechanisms
    vocabularies: tuple[tuple[str, ...], ...]
    weights: Floats
    bias: Floats
    idf: Floats | None
    label_names: tuple[str, ...]
    problem_type: ProblemType = SINGLE_LABEL
    decision: Decision = field(default_factory=Decision)

    @property
    def pairs(self) -> bool:
        return len(self.vocabularies) == 2

    @property
    def num_features(self) -> int:
        return sum(map(len, self.vocabularies))

    @cached_property
    def fingerprint(self) -> str:
        parts = [self.weights.tobytes(), self.bias.tobytes(), b"" if self.idf is None else self.idf.tobytes()]
        decided = [canonical(own)] if (own := self.decision.to_json()) else []
        return fingerprint(self.attention, *parts, *(json.dumps(terms) for terms in self.vocabularies), *decided)

    @cached_property
    def columns(self) -> tuple[dict[str, int], ...]:
        """For each text column the place of each term among all F."""
        first = 0
        found = []
        for terms in self.vocabularies:
            found.append({term: place for place, term in enumerate(terms, first)})
            first += len(terms)
        return tuple(found)

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None) -> tuple[Encoded, npt.NDArray[np.int64]]:
        """The known terms of each text by their place, as often as they occur; and the words of each text [R]."""
        analyze = analyzer()
        ids: list[npt.NDArray[np.int32]] = []
        words = np.zeros(len(texts), dtype=np.int64)
        for row in range(len(texts)):
            found: list[int] = []
            for side, known in zip((texts, pairs)[: len(self.columns)], self.columns, strict=True):
                assert side is not None
                terms = analyze(side[row])
                found += [place for term in terms if (place := known.get(term)) is not None]
                words[row] += (len(terms) + 1) // 2  # n words have n - 1 pairs
            ids.append(np.array(found, dtype=np.int32))
        offsets = np.cumsum([0, *map(len, ids)], dtype=np.int64)
        flat = np.concatenate(ids) if ids else np.zeros(0, dtype=np.int32)
        return Encoded(flat, offsets, None, np.zeros(len(texts), dtype=np.bool_)), words

    def features(self, encoded: Encoded) -> Any:
        """Sparse [R, F] of what `encode` found."""
        from scipy.sparse import csr_matrix

        ones = np.ones(len(encoded.tokens), dtype=np.float64)
        shape = (len(encoded.offsets) - 1, self.num_features)
        counts = csr_matrix((ones, encoded.tokens, encoded.offsets), shape=shape, copy=True)  # summed in place
        counts.sum_duplicates()
        return weigh(counts, [len(terms) for terms in self.vocabularies], self.idf)

    def divided_by(self, temperature: float) -> LinearModel:
        """Its scores divided by `temperature`, in its weights."""
        return replace(self, weights=self.weights / temperature, bias=self.bias / temperature)

    def scores(self, encoded: Encoded) -> Floats:
        """[R, C], logits as a network's: of two classes a score and its opposite by halves; [R, 1] of a regression."""
        return self.logits_of(np.asarray(self.features(encoded) @ self.weights.T) + self.bias)

    def logits_of(self, raw: Floats) -> Floats:
        """[R, C] of the linear functions' values [R, K]."""
        return np.concatenate([-raw / 2, raw / 2], axis=1) if self.halves else raw

    @property
    def halves(self) -> bool:
        """One score decides between two classes."""
        return self.problem_type == SINGLE_LABEL and len(self.label_names) == 2


def check_kind(name: str, problem_type: ProblemType, *, weighted: bool = False) -> None:
    """UserError for what a linear model of this name does not do."""
    if name == "nbsvm" and problem_type == REGRESSION:
        raise UserError("--attention nbsvm: predicts classes; for numbers there are tfidf (ridge) and majority (mean)")
    if name == "majority" and weighted:
        raise UserError("--class-weights: the most frequent class has no weights; leave it out")


def analyzer() -> Callable[[str], list[str]]:
    """From a text to its words, in lower case, and behind them its pairs of words."""
    from sklearn.feature_extraction.text import CountVectorizer

    analyze: Callable[[str], list[str]] = CountVectorizer(ngram_range=NGRAMS, token_pattern=WORD).build_analyzer()
    return analyze


def weigh(counts: Any, widths: Sequence[int], idf: Floats | None) -> Any:
    """Features from counts, sparse [R, F]; each text column (`widths` terms each) is of unit length for itself."""
    from scipy.sparse import csr_matrix, hstack
    from sklearn.preprocessing import normalize

    if idf is None:
        return csr_matrix((np.ones_like(counts.data), counts.indices, counts.indptr), shape=counts.shape)
    weighed = csr_matrix(((1 + np.log(counts.data)) * idf[counts.indices], counts.indices, counts.indptr), counts.shape)
    ends = np.cumsum([0, *widths])
    sides = [weighed[:, begin:end] for begin, end in pairwise(ends)]
    return csr_matrix(hstack([normalize(side, norm="l2", copy=False) for side in sides]))


def save_linear(model: LinearModel, directory: Path, trained_on: Mapping[str, Any] | None = None) -> None:
    """The folder appears whole or not at all. trained_on: what `predict` and `evaluate` have to know of the task."""
    config = {
        "model_type": MODEL_TYPE,
        "attention": model.attention,
        "id2label": {str(number): name for number, name in enumerate(model.label_names)},
        "ngram_range": list(NGRAMS),
        "token_pattern": WORD,
        "trained_on": trained_on,
        "problem_type": model.problem_type,
    }
    if decided := model.decision.to_json():
        config[DECISION] = decided
    tensors = {"weights": model.weights, "bias": model.bias} | ({} if model.idf is None else {"idf": model.idf})
    told = [(VOCABULARY, json.dumps(model.vocabularies).encode()),
            ("config.json", (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode())]  # fmt: skip
    state = {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in tensors.items()}
    files.write_checkpoint(directory, state, told)


def is_linear(directory: Path) -> bool:
    """Does the folder hold a checkpoint of a linear model?"""
    return (directory / VOCABULARY).is_file() and files.read_json(directory / "config.json").get(
        "model_type"
    ) == MODEL_TYPE


def load_linear(directory: Path) -> tuple[LinearModel, Mapping[str, Any] | None]:
    """The model, and what it was trained on. UserError for files that are damaged or do not fit each other."""
    files.verify(directory)
    config = files.read_json(directory / "config.json")
    tensors = {name: tensor.numpy() for name, tensor in files.read_weights(directory).items()}
    try:
        if (tuple(config["ngram_range"]), config["token_pattern"]) != (NGRAMS, WORD):
            raise ValueError("it counts other terms than this version of longread")
        vocabularies = tuple(tuple(map(str, terms)) for terms in json.loads((directory / VOCABULARY).read_bytes()))
        names = tuple(config["id2label"][str(number)] for number in range(len(config["id2label"])))
        if len(set(names)) < len(names):
            raise ValueError("config.json: two labels have the same name; rename one in id2label")
        problem = config.get("problem_type", SINGLE_LABEL)
        if problem not in PROBLEM_TYPES:
            raise ValueError(f"problem_type is {problem!r}")
        decision = Decision.from_json(config.get(DECISION), names, problem, str(directory / "config.json"))
        model = LinearModel(
            str(config["attention"]), vocabularies, tensors["weights"], tensors["bias"], tensors.get("idf"), names,
            problem, decision,
        )  # fmt: skip
        rows, terms = 1 if model.halves else len(names), model.num_features
        shapes = {"weights": (rows, terms), "bias": (rows,)} | ({"idf": (terms,)} if "idf" in tensors else {})
        for name, shape in shapes.items():
            if tensors[name].shape != shape or tensors[name].dtype != np.float64:
                raise ValueError(f"{name} is {tensors[name].dtype} {list(tensors[name].shape)}, not {list(shape)}")
            if not np.isfinite(tensors[name]).all():
                raise ValueError(f"{name} holds NaN or infinite numbers")
        return model, config.get("trained_on")
    except KeyError as error:
        raise UserError(f"{directory}: no whole linear model; {error} is missing") from None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{directory}: no whole linear model; {first_line(error)}") from None
