"""An exported graph evaluated on a task: the rows, the measures and the record are those of its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from longread.config import RunConfig
from longread.data.cut import pooled
from longread.data.dataset import tokenize
from longread.errors import UserError, option_name
from longread.inference.meter import Meter
from longread.inference.onnx import load_onnx
from longread.inference.quality import Evaluated
from longread.inference.scored import LeaveOut, ModelScores, ScoredRows, check_length, record_scores, rows_to_score
from longread.system.measure import Stopwatch

CPU = torch.device("cpu")
TOKENS = 8192  # of a padded batch, as in predict
NAMED = ("task", "eval_rows", "sample_seed", "text_columns", "label_columns", "label_separator", "validation_fraction",
         "encoding", "delimiter", "eval_file", "truncation", "chunk_stride", "max_length")  # fmt: skip


def evaluate_graph(config: RunConfig, place: str | Path, given: Mapping[str, Any], leave_out: LeaveOut) -> Evaluated:
    """As `longread.inference.run.evaluated`. `given`: what was asked for that a graph has no use for.

    UserError for that, and for settings that only a checkpoint has.
    """
    unused = dict(given) | dict(config.options)
    if config.precision not in ("auto", "float32"):
        unused["precision"] = config.precision
    for name, value in unused.items():
        if value:
            raise UserError(f"{option_name(name)}: {place} is an exported graph, which is as it was made")
    asked = config.cut  # refuses a stride without chunks
    meter = Meter(CPU)
    graph = load_onnx(Path(place), config.device, config.threads)
    check_length(config, place, graph.scorer.positions)
    limit = graph.tokenizer.limit(graph.scorer.positions)
    config = replace(
        config,
        max_length=config.max_length or min(limit, graph.scorer.positions),
        **vars(graph.cut if config.truncation is None else asked),
    )
    config, examples = rows_to_score(config, place, graph.labels, graph.problem_type, graph.decision, leave_out)
    assert config.max_length
    split = tokenize(examples, graph.tokenizer, config.max_length, config.data_config().cache, config.cut)
    encoded = split.encoded
    sequences = encoded if encoded.sequences is None else replace(encoded, offsets=encoded.sequences)
    with (watch := Stopwatch()):
        logits = graph.scorer.logits(sequences, config.tokens_per_micro_batch or TOKENS)
    if encoded.sequences is not None:
        text_of = np.repeat(np.arange(len(split)), np.diff(encoded.first_sequences))
        logits = pooled(logits, text_of, len(split), graph.problem_type)  # type: ignore[assignment]
    named = {name: value for name, value in config.named().items() if name in NAMED}
    named |= {"attention": graph.scorer.attention, "init": str(place)}
    threads = {"threads": config.threads} if config.threads else {}
    scores = ModelScores(
        logits, graph.scorer.fingerprint, graph.decision,
        seconds=watch.seconds, cpu_seconds=watch.cpu_seconds, tokens=int(sequences.lengths.sum()),
    )  # fmt: skip
    return record_scores(
        config,
        named,
        ScoredRows(examples, split, graph.tokenizer),
        scores,
        attention=graph.scorer.attention,
        init=str(place),
        num_parameters=graph.num_parameters,
        head_is_untrained=False,
        **meter.fields(CPU, "int8" if graph.int8 else "float32", **threads),
    )
