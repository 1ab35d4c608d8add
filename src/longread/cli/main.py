"""The commands. Each imports what it needs when it runs, so that `--help` answers at once."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import cyclopts
from cyclopts import App, Parameter

from longread import __version__
from longread.config import RunConfig, Settings
from longread.errors import UserError

WRONG_INPUT, FAILED, INTERRUPTED = 2, 1, 130
ALL = ["dense", "longformer", "bigbird", "performer", "linformer"]
Several = Parameter(consume_multiple=1)
Shared = Annotated[Settings, Parameter(name="*")]
DEFAULTS = Settings()

app = App(
    name="longread",
    version=f"longread {__version__}",
    default_parameter=Parameter(negative_iterable=()),
    suppress_keyboard_interrupt=False,
    help="""Efficient-attention transformers for text classification: train, measure, compare.

    Start with `longread compare`: it needs no data and no network, and writes out/index.html.
    """,
)


@app.command
def compare(
    *,
    task: Annotated[list[str], Several] = ["reviews"],  # noqa: B006
    attention: Annotated[list[str], Several] = ALL,
    num_hidden_layers: Annotated[list[int], Several] = [1],  # noqa: B006
    seed: Annotated[list[int], Several] = [0],  # noqa: B006
    baselines: bool = True,
    lengths: Annotated[list[int], Several] = [128, 256, 512, 1024, 2048, 4096],  # noqa: B006
    benchmark: bool = True,
    settings: Shared = DEFAULTS,
) -> int:
    """Train and evaluate a grid of models, then write the report. A stopped or repeated grid goes on where it was.

    Example: longread compare --task imdb --attention dense longformer --seed 0 1 2 --train-rows 10000

    Parameters
    ----------
    task:
        imdb, sst2, qnli, qqp, reviews[:LENGTH], listops[:LENGTH], your own file, or hub:OWNER/NAME. Several: a grid.
    attention:
        dense, longformer, bigbird, performer, linformer. Several: a grid.
    num_hidden_layers:
        Depth. Several: a grid.
    seed:
        Decides the first weights and the order of the rows. With three or more, differences can be tested.
    baselines:
        Also TF-IDF + logistic regression and NB-SVM.
    lengths:
        Lengths at which time and memory of one layer of each mechanism are measured afterwards.
    benchmark:
        Measure by length at all.
    """
    from longread.cli.live import GridView, LengthsView
    from longread.report import build_report, summary_table
    from longread.study.compare import benchmark_all, benchmarks_of, check, grid, run_all

    base = _run_config(settings)
    configs = grid(
        base, tasks=task, attentions=attention, depths=num_hidden_layers, seeds=seed, with_baselines=baselines
    )
    measured = benchmarks_of(base, attention, lengths) if benchmark else []
    check(configs)
    with GridView(configs) as view:
        finished = run_all(configs, view.on_event)
    if measured:
        with LengthsView(measured) as lines:
            benchmark_all(measured, on_event=lines.on_event)
    page = build_report(base.out)
    print(summary_table(finished), file=sys.stderr)
    print(f"report: {page}", file=sys.stderr)
    failed = [run.record for run in finished if run.record["status"] != "ok"]
    for record in failed:
        print(f"{record['attention']}: {record['status']}: {record['error']}", file=sys.stderr)
    return FAILED if failed else 0


@app.command
def train(
    *,
    task: str = "reviews",
    attention: str = "dense",
    num_hidden_layers: int = 1,
    seed: int = 0,
    resume: bool = False,
    settings: Shared = DEFAULTS,
) -> int:
    """Train and evaluate one model; its checkpoint can be given to evaluate and predict.

    Example: longread train --task my.csv --attention longformer --epochs 5

    Parameters
    ----------
    task:
        imdb, sst2, qnli, qqp, reviews[:LENGTH], listops[:LENGTH], your own file, or hub:OWNER/NAME.
    attention:
        dense, longformer, bigbird, performer or linformer; tfidf and nbsvm are the linear baselines.
    num_hidden_layers:
        Depth.
    seed:
        Decides the first weights and the order of the rows.
    resume:
        Go on where this run stopped (or start, when there is nothing yet).
    """
    from longread.cli.live import RunView
    from longread.system.runtime import set_allocator

    set_allocator()
    from longread.training.run import train as run_one

    config = replace(
        _run_config(settings), task=task, attention=attention, num_hidden_layers=num_hidden_layers, seed=seed
    )
    with RunView(config) as view:
        run = run_one(config, resume=resume, on_event=view.on_event)
    record = run.record
    if record["status"] != "ok":
        print(f"{record['status']}: {record['error']}", file=sys.stderr)
        return INTERRUPTED if record["status"] == "interrupted" else FAILED
    found = record["metrics"]
    print(f"accuracy {found['accuracy']:.4f}  f1 {found['f1']:.4f}  loss {found['loss']:.4f}", file=sys.stderr)
    print(f"train {record['train_seconds']:.1f} s  inference {record['eval_seconds']:.2f} s", file=sys.stderr)
    print(f"run: {run.directory}", file=sys.stderr)
    return 0


@app.command
def evaluate(
    checkpoint: str, /, *, task: str = "reviews", json_lines: Annotated[bool, Parameter(name="--json")] = False,
    settings: Shared = DEFAULTS,
) -> int:  # fmt: skip
    """Accuracy, F1, loss and speed of a checkpoint on a task; nothing is trained.

    Example: longread evaluate out/runs/0123456789abcdef --task imdb --eval-rows 2500

    Parameters
    ----------
    checkpoint:
        A run's folder, a checkpoint's folder, or a Hub id.
    task:
        As in train.
    json_lines:
        Print the run record as a line of JSON on stdout.
    """
    from longread.system.runtime import set_allocator

    set_allocator()
    from longread.inference.predictor import evaluate as run_evaluation

    config = replace(_run_config(settings), task=task)
    run = run_evaluation(config, checkpoint, tokenizer=settings.tokenizer)
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


@app.command
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
    from longread.system.runtime import set_allocator

    set_allocator()
    from longread.data.examples import texts_of_file
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


@app.command
def benchmark(
    *,
    attention: Annotated[list[str], Several] = ALL,
    lengths: Annotated[list[int], Several] = [128, 256, 512, 1024, 2048, 4096, 8192, 16384],  # noqa: B006
    num_hidden_layers: int = 1,
    hidden_size: int = 768,
    num_attention_heads: int = 12,
    head_dim: int | None = None,
    attention_window: int | None = None,
    block_size: int | None = None,
    num_random_blocks: int | None = None,
    num_features: int | None = None,
    projection_size: int | None = None,
    precision: Literal["float32", "bfloat16"] = "float32",
    seconds: float = 1.0,
    threads: int | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    json_lines: Annotated[bool, Parameter(name="--json")] = False,
    out: Path = Path("out"),
) -> int:
    """Time and memory of each mechanism by length, and the length from which it beats dense attention.

    Example: longread benchmark --lengths 512 2048 8192 --precision bfloat16

    Parameters
    ----------
    attention:
        Mechanisms; dense is always measured too, the others are compared with it.
    lengths:
        Tokens of the text.
    num_hidden_layers:
        Depth.
    hidden_size:
        Width of the model.
    num_attention_heads:
        Heads of each layer.
    head_dim:
        Width of one head; default hidden_size / num_attention_heads.
    attention_window:
        Longformer: tokens of the window, both sides together.
    block_size:
        BigBird: tokens of a block.
    num_random_blocks:
        BigBird: random blocks that each block sees.
    num_features:
        Performer: random features of each head.
    projection_size:
        Linformer: slots that keys and values are projected to.
    precision:
        Of the products.
    seconds:
        Time spent on each length and phase, at least three repeats.
    threads:
        Processor threads; default: all cores.
    device:
        Where to compute.
    json_lines:
        Print the run records as JSON lines on stdout.
    out:
        Where the records and the report are kept.
    """
    from longread.cli.live import LengthsView
    from longread.report import build_report
    from longread.study.compare import benchmark_all, benchmarks_of

    shape = RunConfig(
        hidden_size=hidden_size, num_attention_heads=num_attention_heads, head_dim=head_dim, threads=threads,
        attention_window=attention_window, block_size=block_size, num_random_blocks=num_random_blocks,
        num_features=num_features, projection_size=projection_size, device=device, out=out,
    )  # fmt: skip
    configs = benchmarks_of(
        shape, attention, lengths, num_hidden_layers=num_hidden_layers, precision=precision, seconds=seconds
    )
    with LengthsView(configs) as view:
        finished = benchmark_all(configs, on_event=view.on_event)
        view.table(finished)
    if json_lines:
        for run in finished:
            print(json.dumps(run.record))
    print(f"report: {build_report(out)}", file=sys.stderr)
    return 0


app.command("longread.cli.convert:convert", name="convert")


@app.command
def report(directory: Path = Path("out"), /, *, out: Path | None = None) -> int:
    """Tables, figures and the page again, from the run records alone.

    Parameters
    ----------
    directory:
        What was given to compare as --out.
    out:
        Where to write; default: the same directory.
    """
    from longread.report import build_report

    print(f"report: {build_report(directory, out)}", file=sys.stderr)
    return 0


@app.command
def tasks(*, json_lines: Annotated[bool, Parameter(name="--json")] = False) -> int:
    """Every task: rows, classes, lengths, where it comes from.

    Parameters
    ----------
    json_lines:
        One JSON object a line on stdout.
    """
    from longread.data.tasks import TASKS

    lines = [_task_line(task) for task in TASKS.values()]
    if json_lines:
        for line in lines:
            print(json.dumps(line))
        return 0
    width = max(len(line["task"]) for line in lines)
    for line in lines:
        print(f"{line['task']:{width}} {line['what']}")
        for key in ("rows", "classes", "length", "columns", "from", "licence"):
            print(f"{'':{width}} {key:8} {line[key]}")
    print("Your own: a .csv, .tsv, .jsonl or .parquet file (or a directory of splits), or hub:OWNER/NAME.")
    return 0


def _task_line(task: Any) -> dict[str, Any]:
    generated = task.generate is not None
    rows = task.split_rows or {"train": task.train_rows, "validation": task.eval_rows}
    return {
        "task": task.name,
        "rows": ", ".join(f"{count:,} {split}" for split, count in rows.items()),
        "classes": ", ".join(task.label_names),
        "length": f"{task.shortest:,} to {task.longest:,}, {task.length:,} by default" if generated else "as written",
        "columns": " + ".join(task.text_columns),
        "what": task.description,
        "from": "generated" if generated else f"--data-dir, or {task.hub_id}@{task.hub_revision[:8]} on the Hub",
        "licence": task.licence,
    }


def _run_config(settings: Settings) -> RunConfig:
    return RunConfig(**{name: getattr(settings, name) for name in Settings.__dataclass_fields__})


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; the exit status: 0 done, 2 wrong input, 130 interrupted, 1 anything else."""
    import logging

    logging.basicConfig(format="%(message)s", stream=sys.stderr, level=logging.INFO)
    logging.getLogger("longread").setLevel(logging.INFO)
    for noisy in ("httpx", "huggingface_hub", "matplotlib", "fontTools"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    given = list(sys.argv[1:] if arguments is None else arguments)
    run: Callable[..., Any] = app
    try:
        code = run(given, exit_on_error=False, print_error=False, result_action="return_value")
    except (UserError, cyclopts.CycloptsError) as error:
        print(f"longread: {' '.join(str(error).split())}", file=sys.stderr)
        return WRONG_INPUT
    except KeyboardInterrupt:
        print("longread: interrupted; the same command (train: with --resume) goes on from here", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        return 0
    return int(code or 0)


if __name__ == "__main__":
    sys.exit(main())
