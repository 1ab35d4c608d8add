"""`longread evaluate` and `longread predict`: a trained checkpoint in use."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from longread.cli.options import (
    COMPUTING,
    CUT,
    MACHINE,
    NONE_GIVEN,
    ROWS,
    JsonLines,
    OfComputing,
    OfLongTexts,
    OfMachine,
    OfMechanisms,
    OfRows,
    Several,
    run_config,
)
from longread.errors import UserError


def evaluate(
    checkpoint: str,
    /,
    *,
    task: str | None = None,
    untrained_head: bool = False,
    json_lines: JsonLines = False,
    cut: OfLongTexts = CUT,
    rows: OfRows = ROWS,
    machine: OfMachine = MACHINE,
    options: OfMechanisms = NONE_GIVEN,
) -> int:
    """Accuracy, F1, loss and speed of a checkpoint on a task; nothing is trained.

    Of a single file, the part is scored that training held out; with --eval-file, the whole of that file.

    Example: longread evaluate out/runs/0123456789abcdef --task imdb --eval-rows 2500

    Parameters
    ----------
    checkpoint:
        A run's folder, a checkpoint's folder, or a Hub id.
    task:
        imdb, sst2, qnli, qqp, reviews[:LENGTH], listops[:LENGTH], your own file, or hub:OWNER/NAME. Default: what the
        checkpoint was trained on, or --eval-file by itself.
    untrained_head:
        Evaluate a checkpoint whose classifier was never trained: its time is the result, its accuracy is chance.
    json_lines:
        Print the run record as a line of JSON on stdout.
    """
    from longread.system.allocator import tune_allocator

    tune_allocator()
    from longread.inference import run as evaluation
    from longread.inference.evaluate import f1_name

    wanted = task or evaluation.default_task(checkpoint, rows.eval_file)
    config = run_config(rows, machine, options=options, task=wanted)
    run = evaluation.evaluate(config, checkpoint, tokenizer=rows.tokenizer, untrained_head=untrained_head, cut=cut)
    record = run.record
    found, names = record["metrics"], record["dataset"]["label_names"]
    if record["head_is_untrained"]:
        print(
            "the classifier of this checkpoint is untrained: its accuracy is chance, its time is not", file=sys.stderr
        )
    print(
        f"accuracy {found['accuracy']:.4f}  {f1_name(names)} {found['f1']:.4f}  loss {found['loss']:.4f}  "
        f"{record['dataset']['eval']['rows']} rows in {record['eval_seconds']:.2f} s "
        f"({record['samples_per_second']:.1f} rows/s, {record['tokens_per_second']:.0f} tokens/s)",
        file=sys.stderr,
    )
    width = max(len(name) for name in names)
    print(f"{'':{width}}  precision  recall     F1  support", file=sys.stderr)
    for name, of in record["per_class"].items():
        print(
            f"{name:{width}}  {of['precision']:9.4f}  {of['recall']:.4f}  {of['f1']:.4f}  {of['support']:7,}",
            file=sys.stderr,
        )
    print(f"predictions: {run.directory / 'predictions.parquet'}", file=sys.stderr)
    if json_lines:
        print(json.dumps(record))
    return 0


def predict(
    checkpoint: str,
    /,
    *texts: str,
    file: Path | None = None,
    out: Path | None = None,
    pair: str | None = None,
    text_columns: Annotated[list[str] | None, Several] = None,
    id_column: str | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    json_lines: JsonLines = False,
    cut: OfLongTexts = CUT,
    computing: OfComputing = COMPUTING,
) -> int:
    """Labels and probabilities for texts, one for each row of the input and in its order.

    JSON lines on stdout, or --out. An empty text has the label null.

    Example: longread predict out/runs/0123456789abcdef "a long, warm, funny film"

    Parameters
    ----------
    checkpoint:
        A run's folder, a checkpoint's folder, or a Hub id.
    texts:
        What to classify. Without texts and --file, lines are read from standard input.
    file:
        One text a line (.txt), or a table (.csv, .tsv, .jsonl, .parquet) with a text column. Of any size.
    out:
        Where to write: .jsonl, .csv or .parquet. `row` counts the rows of the input from 0.
    pair:
        The second text, for a model that compares two; of every row, where there are several.
    text_columns:
        Column of the text in a table, or two for pairs. Default: the columns of training, or the obvious ones.
    id_column:
        Column of a table that is kept in the output.
    encoding:
        Of --file, as in train.
    delimiter:
        Of --file, as in train.
    json_lines:
        Output is JSON lines in any case; accepted for symmetry.
    """
    from longread.system.allocator import tune_allocator

    tune_allocator()
    from longread.data.stream import Block, blocks_of_file, blocks_of_lines
    from longread.inference import answers
    from longread.inference.predictor import load

    if out is not None:
        answers.check_output(out)
    if file is None:
        for option, value in (("--text-columns", text_columns), ("--id-column", id_column),
                              ("--encoding", encoding), ("--delimiter", delimiter)):  # fmt: skip
            if value is not None:
                raise UserError(f"{option}: only with --file")
    elif texts:
        raise UserError("give texts or --file, not both")
    classifier = replace(load(checkpoint, computing.device, precision=computing.precision), cut=cut)
    if file is not None:
        usual = classifier.origin.text_columns if classifier.origin else ()
        blocks = blocks_of_file(file, text_columns, id_column, usual=usual, encoding=encoding, delimiter=delimiter)
    elif texts:
        blocks = iter([Block(list(texts))])
    else:
        blocks = blocks_of_lines(line.rstrip("\r\n") for line in sys.stdin)
    found = answers.answer(classifier, blocks, pair)
    if out is None:
        write = answers.write_lines(sys.stdout, id_column)
        for part in found:
            write(part)
            sys.stdout.flush()
        return 0
    with answers.output(out, classifier.label_names, id_column) as write:
        for part in found:
            write(part)
    print(f"predictions: {out}", file=sys.stderr)
    return 0
