"""Logits for a task's rows become a record: measures, a closer look, the predictions' file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from longread import records
from longread.config import RunConfig
from longread.data.cut import whole_lengths
from longread.data.dataset import Split
from longread.data.examples import Examples
from longread.data.load import load_split
from longread.data.tasks import find_task
from longread.data.tokenizer import Tokenizer
from longread.errors import UserError
from longread.inference.metrics import answers_of, mean_loss, metrics, predicted_of
from longread.inference.quality import Evaluated, closer_look
from longread.models.decision import Decision
from longread.problems import REGRESSION, ProblemType
from longread.records import Dataset, RunRecord, SplitRecord
from longread.system import processes

LeaveOut = Callable[[Examples], Examples]


def write_answers(
    directory: Path,
    rows: Examples | Split,
    answers: npt.NDArray[np.floating[Any]],
    thresholds: Sequence[float] | None,
) -> None:
    """predictions.parquet of a run; answers [R, C] as in metrics.py."""
    records.write_predictions(
        directory / "predictions.parquet",
        rows.rows,
        rows.labels,
        None if rows.problem_type == REGRESSION else answers,
        predicted_of(answers, rows.problem_type, thresholds),
    )


def split_record(rows: Split | Examples, config: RunConfig) -> SplitRecord:
    """Which rows these are, and how many the split has as a whole."""
    name = rows.name if isinstance(rows, Split) else rows.split
    return SplitRecord(
        name=rows.task,
        split=name,
        rows=len(rows),
        fingerprint=rows.fingerprint,
        rows_of_split=find_task(config.task).split_rows.get(name),
        pairs=bool(rows.pairs),
        text_columns=rows.text_columns or None,
    )


def rows_to_score(
    config: RunConfig,
    source: str | Path,
    names: Sequence[str],
    problem: ProblemType,
    decision: Decision,
    leave_out: LeaveOut,
) -> tuple[RunConfig, Examples]:
    """The rows that the configuration names, read as a model of these labels is asked, and the configuration with that.

    leave_out: gives of the rows those that may be scored (inference/unseen.py). UserError where it asks for another
    problem type, and for the rows that a temperature was chosen on.
    """
    if config.problem_type not in (None, problem):
        raise UserError(f"--problem-type {config.problem_type}: {source} was trained for {problem}")
    config = replace(config, problem_type=problem)
    examples = load_split(config.data_config(), label_names=tuple(names), leave_out=leave_out)
    if examples.fingerprint == decision.fingerprint:
        raise UserError(f"{source}: these are the rows that its temperature was chosen on; evaluate it on others")
    return config, examples


def check_length(config: RunConfig, source: str | Path, reads: int) -> None:
    """UserError for a --max-length beyond the tokens that a model reads."""
    if config.max_length is not None and config.max_length > reads:
        raise UserError(f"--max-length {config.max_length}: {source} reads {reads} tokens; give fewer, or leave it out")


@dataclass(frozen=True)
class ScoredRows:
    """The rows that a model scored: their texts with labels, and in `split` what `tokenizer` made of them."""

    examples: Examples
    split: Split
    tokenizer: Tokenizer


@dataclass(frozen=True)
class ModelScores:
    """Logits [R, C] for these rows, the model they are of (`weights`: a fingerprint), and what they took."""

    logits: npt.NDArray[np.floating[Any]]
    weights: str
    decision: Decision
    seconds: float
    cpu_seconds: float
    tokens: int


def record_scores(
    config: RunConfig, named: Mapping[str, Any], rows: ScoredRows, scores: ModelScores, **fields: Any
) -> Evaluated:
    """The record, of kind evaluate, of these scores. fields: further ones of the record.

    named: the settings that decide the result, for the record and its name.
    """
    examples, split, decision = rows.examples, rows.split, scores.decision
    problem, labels = split.problem_type, examples.labels
    decided, thresholds = decision.to_json(), decision.of(split.label_names)
    answers, loss = answers_of(scores.logits, problem), mean_loss(scores.logits, labels, problem)
    fingerprints = [split.fingerprint, rows.tokenizer.fingerprint, scores.weights]
    fingerprints += [records.canonical(decided)] if decided else []
    record = RunRecord(
        run_id=records.run_id("evaluate", named, 0, fingerprints),
        kind="evaluate",
        status="ok",
        task=config.task,
        config=named,
        seed=0,
        metrics=metrics(labels, answers, problem, thresholds) | {"loss": loss},
        **_closer_look(rows, answers, thresholds),
        decision=decided or None,
        train_seconds=0.0,
        eval_seconds=scores.seconds,
        cpu_seconds=scores.cpu_seconds,
        samples_per_second=len(split) / scores.seconds,
        tokens_per_second=scores.tokens / scores.seconds,
        truncated_fraction=float(split.encoded.truncated.mean()),
        dataset=Dataset(
            label_names=split.label_names,
            problem_type=problem,
            eval=split_record(split, config),
            streamed=split.encoded.maps is not None or None,
        ),
        **fields,
    )
    directory = config.out / "runs" / record.run_id
    if processes.is_first():
        directory.mkdir(parents=True, exist_ok=True)
        write_answers(directory, examples, answers, thresholds)
        records.write_record(config.out, record)
    processes.wait()
    run = records.find_run(config.out, record.run_id)
    assert run is not None
    return Evaluated(run, examples, answers, thresholds)


def _closer_look(
    rows: ScoredRows, answers: npt.NDArray[np.floating[Any]], thresholds: Sequence[float] | None
) -> dict[str, Any]:
    examples, split = rows.examples, rows.split
    whole = split.encoded.whole
    if whole is None:
        whole = whole_lengths(rows.tokenizer, examples.texts, examples.pairs, split.encoded)
    return closer_look(
        examples.labels, answers, split.label_names, split.problem_type, thresholds=thresholds,
        tokens=split.tokens_read, truncated=split.encoded.truncated, tokens_in_text=whole,
    )  # fmt: skip
