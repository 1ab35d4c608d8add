"""`longread evaluate` and `longread predict`: a trained checkpoint in use."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from longread.cli.options import DEFAULTS, Several, Shared, run_config
from longread.errors import UserError


def evaluate(
    checkpoint: str, /, *, task: str | None = None, json_lines: Annotated[bool, Parameter(name="--json")] = False,
    settings: Shared = DEFAULTS,
) -> int:  # fmt: skip
    """Accuracy, F1, loss and speed of a checkpoint on a task; nothing is trained.

    Of a single file, the part is scored that training held out; with --eval-file, the whole of that file.

    Example: longread evaluate out/runs/0123456789abcdef --task imdb --eval-rows 2500

    Parameters
    ----------
    checkpoint:
        A run's folder, a checkpoint's folder, or a Hub id.
    task:
        As in train. Default: what the checkpoint was trained on, or --eval-file by itself.
    json_lines:
        Print the run record as a line of JSON on stdout.
    """
    from longread.system.allocator import tune_allocator

    tune_allocator()
    from longread.inference import run as evaluation

    config = replace(run_config(settings), task=task or evaluation.default_task(checkpoint, settings.eval_file))
    run = evaluation.evaluate(config, checkpoint, tokenizer=settings.tokenizer)
    record = run.record
    found = record["metrics"]
    if record["head_is_untrained"]:
        print(
            "the classifier of this checkpoint is untrained: its accuracy is chance, its time is not", file=sys.stderr
        )
    print(
        f"accuracy {found['accuracy']:.4f}  f1 {found['f1']:.4f}  loss {found['loss']:.4f}  "
        f"{record['dataset']['eval']['rows']} rows in {record['eval_seconds']:.2f} s "
        f"({record['samples_per_second']:.1f} rows/s, {record['tokens_per_second']:.0f} tokens/s)",
        file=sys.stderr,
    )
    if json_lines:
        print(json.dumps(record))
    return 0


def predict(
    checkpoint: str,
    /,
    *texts: str,
    file: Path | None = None,
    pair: str | None = None,
    text_columns: Annotated[list[str] | None, Several] = None,
    json_lines: Annotated[bool, Parameter(name="--json")] = False,
) -> int:
    """Labels and probabilities for texts, as JSON lines on stdout.

    Example: longread predict out/runs/0123456789abcdef "a long, warm, funny film"

    Parameters
    ----------
    checkpoint:
        A run's folder, a checkpoint's folder, or a Hub id.
    texts:
        What to classify. Without texts and --file, lines are read from standard input.
    file:
        One text a line (.txt), or a table (.csv, .tsv, .jsonl, .parquet) with a text column.
    pair:
        The second text, for a model that compares two.
    text_columns:
        Column of the text in a table, or two for pairs.
    json_lines:
        Output is JSON lines in any case; accepted for symmetry.
    """
    from longread.system.allocator import tune_allocator

    tune_allocator()
    from longread.data.columns import texts_of_file
    from longread.inference.predictor import load

    given = list(texts)
    partners = [pair] * len(given) if pair is not None else None
    if file is not None:
        if given:
            raise UserError("give texts or --file, not both")
        given, partners = texts_of_file(file, text_columns)
    elif not given:
        given = [line.rstrip("\n") for line in sys.stdin if line.strip()]
    if not given:
        raise UserError("nothing to classify: give texts, --file, or lines on standard input")
    for prediction in load(checkpoint).predict(given, partners):
        line: dict[str, Any] = {"label": prediction.label, "probabilities": prediction.probabilities}
        if prediction.truncated:
            line["truncated"] = True
        print(json.dumps(line, ensure_ascii=False))
    return 0
