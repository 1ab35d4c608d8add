"""A trained checkpoint in use: labels for texts."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from longread.data.config import Cut
from longread.data.cut import Reading, read
from longread.data.labels import placeholders
from longread.data.stream import Block, blocks_of_texts
from longread.data.tokenizer import Tokenizer, load_tokenizer
from longread.errors import UserError
from longread.inference.collate import BATCHES_AHEAD, made_ahead
from longread.inference.explain import Explanation, explain
from longread.inference.explain_linear import explain_linear
from longread.inference.metrics import answers_of
from longread.inference.origin import Origin, folder_of, is_graph, origin_of
from longread.inference.prediction import EMPTY, Prediction, is_empty, predictions_of
from longread.inference.scoring import LinearScorer, Scorer, TorchScorer
from longread.models import linear
from longread.models.checkpoint import from_pretrained
from longread.models.classifier import Classifier
from longread.models.decision import Decision
from longread.models.int8 import to_int8
from longread.models.loading import check_answers, check_tokenizer
from longread.ops.linear import keep_bfloat16
from longread.problems import REGRESSION, SINGLE_LABEL, ProblemType
from longread.records import fingerprint
from longread.system import runtime


@dataclass
class Predictor:
    """What `longread.load` returns."""

    scorer: Scorer
    tokenizer: Tokenizer
    label_names: tuple[str, ...]
    source: str
    tokens_per_micro_batch: int = 8192
    origin: Origin | None = None
    cut: Cut = field(default_factory=Cut)
    problem_type: ProblemType = SINGLE_LABEL
    decision: Decision = field(default_factory=Decision)

    @property
    def model(self) -> Classifier:
        """UserError for an exported graph: it has logits, but no gradients and no weights to look at."""
        if not isinstance(self.scorer, TorchScorer):
            raise UserError(f"{self.source}: an exported graph only predicts; for this give the checkpoint it is from")
        return self.scorer.model

    @property
    def classes_(self) -> npt.NDArray[np.str_]:
        """The labels, in the order of the columns of `predict_proba`."""
        return np.array(self.label_names)

    @property
    def max_length(self) -> int:
        """Tokens of the longest text that is read whole."""
        assert self.scorer.positions is not None
        return self.tokenizer.limit(self.scorer.positions)

    @property
    def device(self) -> torch.device:
        return self.scorer.device

    @property
    def fingerprint(self) -> str:
        """Of all that decides its answers."""
        told = (
            self.max_length,
            self.tokens_per_micro_batch,
            self.cut,
            self.problem_type,
            self.label_names,
            self.decision,
        )
        return fingerprint(self.scorer.fingerprint, self.tokenizer.fingerprint, repr(told))

    def read(self, texts: Sequence[str], pairs: Sequence[str] | None) -> Reading:
        """The texts as the model reads them."""
        return read(self.tokenizer, texts, pairs, self.max_length, self.cut)

    def predict(self, texts: Iterable[str], pairs: Iterable[str] | None = None) -> list[Prediction]:
        """A prediction for each text (with its partner from `pairs`, for tasks that compare two).

        An empty text has no label; the others are answered as if it were not there. UserError where `texts` is one
        string or holds something else than texts, where its length differs from that of `pairs`, and where a model
        that was trained on pairs is given none, or the other way round.
        """
        texts, pairs = _checked(texts, "text"), None if pairs is None else _checked(pairs, "partner")
        if pairs is not None and len(pairs) != len(texts):
            raise UserError(f"{len(texts)} texts and {len(pairs)} partners; give each text one")
        return [one for _, found in self.stream(blocks_of_texts(texts, pairs)) for one in found]

    def stream(self, blocks: Iterable[Block]) -> Generator[tuple[Block, list[Prediction]]]:
        """Each block with its predictions, in order; the next ones are read and tokenized in a thread meanwhile.

        Memory does not grow with their number. Whoever stops early closes the generator. UserError as `predict`.
        """
        read = ((block, self._read(block.texts, block.pairs)) for block in blocks)
        with closing(made_ahead(read, BATCHES_AHEAD)) as ready:
            for block, reading in ready:
                yield block, self._answer(len(block), *reading)

    def predict_proba(self, texts: Iterable[str], pairs: Iterable[str] | None = None) -> npt.NDArray[np.float64]:
        """[R, C], columns in the order of `classes_`; NaN for an empty text. UserError for a regression."""
        if self.problem_type == REGRESSION:
            raise UserError(f"{self.source}: predicts a number and has no probabilities; predict gives its value")
        found = [
            [one.probabilities.get(name, np.nan) for name in self.label_names] for one in self.predict(texts, pairs)
        ]
        return np.array(found, dtype=np.float64).reshape(len(found), len(self.label_names))

    def explain(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None, *, label: str | None = None
    ) -> list[Explanation]:
        """Which tokens decided: see `longread.inference.explain.explain`."""
        self._check_given(pairs)
        return explain(self, texts, pairs, label=label)

    def _check_given(self, pairs: Sequence[str] | None) -> None:
        wants = self.origin.pairs if self.origin else None
        if wants is not None and wants != (pairs is not None):
            raise UserError(
                f"{self.source}: trained on pairs of texts; give the second one (--pair, or two --text-columns)"
                if wants
                else f"{self.source}: trained on single texts; leave the second one out"
            )

    def _read(self, texts: list[str], pairs: list[str] | None) -> tuple[list[int], Reading | None]:
        """Which texts are not empty, and these as tokens."""
        self._check_given(pairs)
        kept = [row for row, text in enumerate(texts) if not is_empty(text, None if pairs is None else pairs[row])]
        if not kept:
            return kept, None
        partners = None if pairs is None else [pairs[row] for row in kept]
        return kept, self.read([texts[row] for row in kept], partners)

    def _answer(self, count: int, kept: list[int], reading: Reading | None) -> list[Prediction]:
        answers = [Prediction(None, {}, why=EMPTY)] * count
        if reading is None:
            return answers
        logits = reading.pooled(self.scorer.logits(reading.encoded, self.tokens_per_micro_batch), self.problem_type)
        tokens, whole = reading.tokens.tolist(), reading.tokens_in_text.tolist()
        for place, (row, found) in enumerate(zip(kept, self.told(logits), strict=True)):
            answers[row] = replace(found, tokens=tokens[place], tokens_in_text=whole[place])
        return answers

    def told(self, logits: npt.NDArray[Any]) -> list[Prediction]:
        """What logits [R, C] say, in names. UserError where they are no numbers."""
        answers = answers_of(logits, self.problem_type)
        if not np.isfinite(answers).all():
            raise UserError(f"{self.source}: its answers are not numbers (NaN); the weights are damaged")
        return predictions_of(answers, self.label_names, self.problem_type, self.decision)


@dataclass
class LinearPredictor(Predictor):
    """A linear model, which reads words where a transformer reads tokens: it has no tokenizer and no network."""

    scorer: LinearScorer
    tokenizer: Tokenizer = field(init=False, repr=False)

    @property
    def model(self) -> Classifier:
        raise UserError(
            f"{self.source}: a linear model ({self.scorer.attention}) has no network; for this give a transformer's run"
        )

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.scorer.fingerprint, repr(self.label_names))

    def read(self, texts: Sequence[str], pairs: Sequence[str] | None) -> Reading:
        if self.cut.truncation is not None:
            raise UserError(f"--truncation {self.cut.truncation}: a linear model reads every word; leave it out")
        encoded, words = self.scorer.model.encode(texts, pairs)
        return Reading(encoded, np.arange(len(texts)), words, words)

    def explain(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None, *, label: str | None = None
    ) -> list[Explanation]:
        """What each word adds to the score, exactly: see `longread.inference.explain_linear`."""
        self._check_given(pairs)
        return explain_linear(self.scorer.model, texts, pairs, label=label)


def _checked(texts: Iterable[str], what: str) -> list[str]:
    """A list, from a list, an array or a column of a data frame."""
    if isinstance(texts, str):
        raise UserError("predict wants a list of texts; write predict([text])")
    found = list(texts)
    for row, text in enumerate(found):
        if not isinstance(text, str):
            raise UserError(f"{what} {row} (from 0) is {text!r}, not a string")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UserError(f"{what} {row} (from 0) holds half a character at position {error.start}") from error
    return found


def load(
    place: str | Path,
    device: str = "auto",
    *,
    precision: str = "float32",
    untrained_head: bool = False,
    threads: int | None = None,
    **overrides: Any,
) -> Predictor:
    """From a run's folder, its checkpoint folder, any checkpoint that brings a tokenizer, or an exported .onnx.

    device: "auto", "cpu", "cuda", "cuda:N" or "mps". precision: "float32", "bfloat16", "int8" (linear layers, on
    a processor), or "auto" for the faster of the first two.
    overrides: as in `from_pretrained`. untrained_head: also with a classifier that was never trained, to measure time.
    threads: of an exported graph, which has its own; default all cores.
    UserError for a place without a model, a trained classifier or a tokenizer, and for a device that is not there.
    """
    path = Path(place)
    fixed = [*overrides, *(["precision"] if precision in ("bfloat16", "int8") else [])]
    if is_graph(path):
        if fixed:
            raise UserError(f"{place}: {', '.join(fixed)} cannot be set; an exported graph is as it was made")
        return _graph(path, device, threads)
    chosen = runtime.pick_device(device)
    path = folder_of(path)
    if (path / "run.json").is_file():
        raise UserError(
            f"{path}: this run has no checkpoint (it failed, was dropped, or is a baseline of an earlier version)"
        )
    if linear.is_linear(path):
        fixed += [] if device in ("auto", "cpu") else ["device"]
        if fixed:
            raise UserError(f"{place}: {', '.join(fixed)} cannot be set; a linear model computes on the processor")
        return _linear(path, str(place))
    model = from_pretrained(path if Path(place).exists() else str(place), **overrides)
    check_answers(model, untrained_head=untrained_head)
    return _network(model, path, str(place), chosen, precision)


def _graph(file: Path, device: str, threads: int | None) -> Predictor:
    from longread.inference.onnx import load_onnx

    graph = load_onnx(file, device, threads)
    return Predictor(
        graph.scorer,
        graph.tokenizer,
        graph.labels,
        str(file),
        origin=graph.origin,
        cut=graph.cut,
        problem_type=graph.problem_type,
        decision=graph.decision,
    )


def _linear(folder: Path, source: str) -> Predictor:
    model, trained_on = linear.load_linear(folder)
    return LinearPredictor(
        LinearScorer(model),
        model.label_names,
        source,
        origin=origin_of(folder) or Origin.from_json(trained_on),
        problem_type=model.problem_type,
        decision=model.decision,
    )


def _network(model: Classifier, folder: Path, source: str, device: torch.device, precision: str) -> Predictor:
    if model.tokenizer_file is None:
        raise UserError(f"{source}: the checkpoint brings no tokenizer; put its tokenizer.json beside config.json")
    tokenizer = load_tokenizer(model.tokenizer_file)
    check_tokenizer(model, tokenizer)
    config, decision, cut = model.config, model.decision, model.cut
    assert config.problem_type is not None
    model = model.to(device).eval()
    model = to_int8(model) if precision == "int8" else model
    picked = runtime.pick_precision(precision, device, config.hidden_size)
    if picked == "bfloat16":
        keep_bfloat16(model)
    return Predictor(
        TorchScorer(model, picked),
        tokenizer,
        config.label_names or placeholders(config.num_labels),
        source,
        origin=origin_of(folder),
        cut=cut,
        problem_type=config.problem_type,
        decision=decision,
    )
