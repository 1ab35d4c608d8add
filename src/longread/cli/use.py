"""`longread evaluate` and `longread predict`: a trained checkpoint in use."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from longread.checks import Natural
from longread.cli import logs
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
    asked_to_read,
    run_config,
)
from longread.cli.places import check_new_file
from longread.errors import UserError

if TYPE_CHECKING:
    from longread.cli.options import Computing
    from longread.data.config import Cut
    from longread.inference.quality import Evaluated


def evaluate(
    checkpoint: str,
    /,
    *,
    task: str | None = None,
    untrained_head: bool = False,
    mistakes: Natural = 0,
    json_lines: JsonLines = False,
    rows: OfRows = ROWS,
    machine: OfMachine = MACHINE,
    options: OfMechanisms = NONE_GIVEN,
) -> int:
    """Accuracy, F1, loss and speed of a checkpoint on a task; nothing is trained.

    Of files that it was trained on, the rows are scored that were held out (or the --eval-file of training); of
    others, all rows. A file counts as trained on if it has the same bytes, whatever its name.

    Example: longread evaluate out/runs/0123456789abcdef --task imdb --eval-rows 2500

    Parameters
    ----------
    checkpoint:
        A run's folder, a checkpoint's folder, a Hub id, or a NAME.onnx of `longread export`.
    task:
        imdb, sst2, qnli, qqp, reviews[:LENGTH], listops[:LENGTH], your own file, or hub:OWNER/NAME. Default: what the
        checkpoint was trained on, or --eval-file by itself.
    untrained_head:
        Evaluate a checkpoint whose classifier was never trained: its time is the result, its accuracy is chance.
    mistakes:
        Show so many wrong answers with their texts, the most confident first: a line each here, whole in mistakes.html
        beside the record. No other file of a run holds a text.
    json_lines:
        Print the run record as a line of JSON on stdout.
    """
    from longread.system.allocator import tune_allocator

    tune_allocator()
    from longread.cli.live import AnswersView, metric_line
    from longread.data.tasks import find_task
    from longread.inference import run as evaluation
    from longread.inference.unseen import default_task
    from longread.report.quality import class_table, confusion_table, length_table

    if task is not None:
        find_task(task)  # before the model is loaded
    wanted = task or default_task(checkpoint, rows.eval_file)
    config = run_config(rows, machine, options=options, task=wanted)
    with AnswersView("evaluate") as view:
        found = evaluation.evaluated(
            config, checkpoint, tokenizer=rows.tokenizer, untrained_head=untrained_head, on_rows=view.on_progress
        )
    run, record = found.run, found.run.record
    if record["head_is_untrained"]:
        logs.log.warning("the classifier of this checkpoint is untrained: its answers are chance, its time is not")
    logs.result(
        f"{metric_line(record)}  {record['dataset']['eval']['rows']} rows in {record['eval_seconds']:.2f} s "
        f"({record['samples_per_second']:.1f} rows/s, {record['tokens_per_second']:.0f} tokens/s)",
        metrics=record["metrics"],
    )
    tables = {"class by class": class_table, "confusion matrix": confusion_table, "by length": length_table}
    for title, table in tables.items():
        if (made := table([("", record["attention"], record)])) is not None:
            logs.table(made, title)
    if "calibration" in record:
        logs.result(f"expected calibration error {record['calibration']['ece']:.4f}", apart=True)
    if "decision" in record:
        logs.result(_decided(record["decision"]))
    if mistakes:
        _show_mistakes(found, mistakes, checkpoint)
    logs.result(f"predictions: {run.directory / 'predictions.parquet'}", run=run.directory)
    if json_lines:
        print(json.dumps(record))
    return 0


def _decided(own: Mapping[str, Any]) -> str:
    """What the checkpoint's training chose on held-out rows, in words."""
    parts = [f"temperature {own['temperature']:.3f}"] if "temperature" in own else []
    parts += [f"{name!r} from probability {value:.3f}" for name, value in (own.get("thresholds") or {}).items()]
    return f"chosen on {own['rows']:,} rows held out of train: {', '.join(parts)}"


def _show_mistakes(found: Evaluated, count: int, checkpoint: str) -> None:
    """The only place where texts of a task are printed or written by `evaluate`."""
    from longread.inference.mistakes import mistakes_page
    from longread.problems import REGRESSION
    from longread.records import write_atomically

    shown, every = found.worst(count), len(found.worst(len(found.examples)))
    what = "largest errors" if found.examples.problem_type == REGRESSION else "mistakes, the most confident first"
    logs.result(f"{len(shown)} of {every:,} {what}", apart=True)
    for mistake in shown:
        logs.result(mistake.line(), on_screen_only=True)
    page = found.run.directory / "mistakes.html"
    title = f"Mistakes of {checkpoint} on {found.run.record['task']}"
    write_atomically(page, mistakes_page(shown, title, wrong=every, rows=len(found.examples)))
    logs.result(f"mistakes with their whole texts: {page}", page=page)


def predict(
    checkpoint: str,
    /,
    *texts: str,
    file: Path | None = None,
    out: Path | None = None,
    overwrite: bool = False,
    pair: str | None = None,
    text_columns: Annotated[list[str] | None, Several] = None,
    id_column: str | None = None,
    keep_columns: Annotated[list[str] | None, Several] = None,
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
        A run's folder, a checkpoint's folder, a Hub id, or a NAME.onnx of `longread export`.
    texts:
        What to classify. Without texts and --file, lines are read from standard input.
    file:
        One text a line (.txt), or a table (.csv, .tsv, .jsonl, .parquet, .arrow, .feather) with a text column. Of any
        size; .txt, .csv, .tsv and .jsonl also compressed (.gz, .zst, .bz2, .xz).
    out:
        Where to write: .jsonl, .csv or .tsv (also with .gz, .zst or .bz2), or .parquet. `row` counts the rows of the
        input from 0. A stopped output of a --file goes on where it was when the command is given again. A file that
        is there already is not replaced without --overwrite.
    overwrite:
        Replace an --out that is there already.
    pair:
        The second text, for a model that compares two; of every row, where there are several.
    text_columns:
        Column of the text in a table, or two for pairs. Default: the columns of training, or the obvious ones.
    id_column:
        Column of a table that is kept in the output.
    keep_columns:
        Further columns of a table that are kept in the output.
    encoding:
        Of --file, as in train.
    delimiter:
        Of --file, as in train.
    json_lines:
        Output is JSON lines in any case; accepted for symmetry.
    """
    from longread.system.allocator import tune_allocator

    tune_allocator(computing.precision)
    from longread.data.sources import told
    from longread.data.stream import check_file
    from longread.inference.outputs import check_output
    from longread.system import processes

    if out is not None:
        check_output(out)
        check_new_file(out, overwrite)
    elif overwrite:
        raise UserError("--overwrite: only with --out")
    if file is None:
        for option, value in (("--text-columns", text_columns), ("--id-column", id_column),
                              ("--keep-columns", keep_columns), ("--encoding", encoding),
                              ("--delimiter", delimiter)):  # fmt: skip
            if value is not None:
                raise UserError(f"{option}: only with --file")
        if processes.started_by_torchrun():
            raise UserError("predict under torchrun: give the texts as a --file; its blocks are shared out")
    elif texts:
        raise UserError("give texts or --file, not both")
    else:
        with told(str(file)):
            check_file(file)
    kept = list(dict.fromkeys([*([id_column] if id_column else []), *(keep_columns or [])]))
    reading = {"text_columns": text_columns, "kept": kept, "encoding": encoding, "delimiter": delimiter}
    with processes.joined():
        _predict(checkpoint, texts, file, out, pair, reading, cut, computing)
    return 0


def _predict(
    checkpoint: str,
    texts: tuple[str, ...],
    file: Path | None,
    out: Path | None,
    pair: str | None,
    reading: Mapping[str, Any],
    cut: Cut,
    computing: Computing,
) -> None:
    """reading: how the rows of `file` are read."""
    from longread.cli.live import AnswersView
    from longread.data.stream import blocks_of_file, blocks_of_texts
    from longread.inference import resuming
    from longread.inference.answers import Tally, answer
    from longread.inference.outputs import Columns, format_of
    from longread.inference.predictor import load
    from longread.system import processes

    with processes.first_goes_ahead():
        classifier = asked_to_read(load(checkpoint, computing.device, precision=computing.precision), cut)
    if file is not None:
        made_by = classifier.origin
        usual, own_table = (made_by.text_columns, made_by.of_own_table) if made_by else ((), False)
        blocks = blocks_of_file(file, usual=usual, own_table=own_table, **reading)
    else:
        blocks = blocks_of_texts(texts or _standard_input())
    form = format_of(out or Path("-.jsonl"), Columns(classifier.label_names, reading["kept"], classifier.problem_type))
    if out is None:
        with AnswersView(shown=file is not None and not sys.stdout.isatty()) as view:
            for data, _ in answer(classifier, blocks, form.block, pair, on_progress=view.on_progress):
                sys.stdout.write(data.decode())
                sys.stdout.flush()
        return
    name = None
    if file is not None and file.is_file():
        name = resuming.identity(classifier, file, pair=pair, **reading, out=out.suffixes)
    with resuming.output(out, form, name) if processes.is_first() else nullcontext() as written:
        done = Tally(**processes.tell(None if written is None else asdict(written.done.tally)))
        with AnswersView(before=done.texts) as view:
            pieces = answer(classifier, blocks, form.block, pair, done=done, on_progress=view.on_progress)
            for data, tally in pieces:
                assert written is not None
                written.write(data, tally)
    logs.result(f"predictions: {out}", predictions=out)


def _standard_input() -> Iterator[str]:
    try:
        for line in sys.stdin:
            yield line.rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise UserError(f"standard input: not {error.encoding} text; give a --file and its --encoding") from None
