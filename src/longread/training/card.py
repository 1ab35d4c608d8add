"""The model card: README.md of a trained checkpoint, made from its run record, with the metadata that the Hub reads.

It is the user's to edit: no checksum covers it, and nothing reads it back.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from longread import __version__
from longread.data.tasks import Task, find_task
from longread.errors import UserError
from longread.inference.intervals import intervals
from longread.models.weights import CARD, PLACE
from longread.problems import METRIC_WORDS, MULTI_LABEL, REGRESSION, f1_name, is_absent, problem_of
from longread.records import Run, write_atomically

SHOWN = 30  # labels in a list or table
LONGEST = 60  # characters of a name
METRICS = {
    "single_label_classification": ("accuracy", "f1", "f1_macro"),
    "multi_label_classification": ("exact_match", "f1_micro", "f1_macro", "average_precision"),
    "regression": ("mse", "mae", "spearman", "r2"),
}
SETTINGS = (
    "num_hidden_layers",
    "hidden_size",
    "max_length",
    "epochs",
    "steps",
    "mask_fraction",
    "batch_size",
    "learning_rate",
)
READS = {"head": "the first {:,} tokens", "tail": "the last {:,} tokens", "head_tail": "{:,} tokens of both ends"}
KINDS = {"train": "a training", "distill": "a distillation", "pretrain": "a pretraining"}
# The Hub's names of metrics.
HUB_METRICS = {"accuracy": "accuracy", "exact_match": "exact_match", "average_precision": "average_precision",
               "mse": "mse", "mae": "mae", "spearman": "spearmanr", "r2": "r_squared"}  # fmt: skip


def write_card(run: Run, checkpoint: Path) -> None:
    """`run` has its predictions beside it, where it made any."""
    write_atomically(checkpoint / CARD, model_card(run))


def model_card(run: Run) -> str:
    """Metadata and text. Names of the user's are quoted: they hold no YAML and no Markdown."""
    record, found = run.record, run.predictions()
    names = record["dataset"]["label_names"]
    ends = {} if found is None else intervals(found["label"], found["predicted"], problem_of(record), len(names))
    return f"---\n{_metadata(record)}\n---\n\n" + "\n".join(_text(record, ends)).rstrip() + "\n"


def plain(name: object) -> str:
    """A name as Markdown that shows it: one line, not too long, every mark that could mean something escaped."""
    return re.sub(r"([\\`*_{}\[\]()#+!|<>&~$:])", r"\\\1", _one_line(name))


def _one_line(name: object) -> str:
    text = "".join(mark if mark.isprintable() else " " for mark in " ".join(str(name).split()))
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _metadata(record: Mapping[str, Any]) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    task = _task(record)
    hub_id = _hub_id(task)
    rows = record["dataset"].get("eval") or {}
    name = f"{record['attention'].replace(' ', '-')}-{re.sub(r'[^A-Za-z0-9.]+', '-', task.name).strip('-.') or 'model'}"
    results = [
        EvalResult(
            task_type="text-classification",
            dataset_type=hub_id or re.sub(r"[^A-Za-z0-9.]+", "-", task.name).strip("-.") or "file",
            dataset_name=_one_line(task.name),
            dataset_config=task.name if hub_id and "glue" in hub_id else None,
            dataset_split=rows.get("split"),
            dataset_revision=task.hub_revision,
            metric_type=HUB_METRICS.get(metric, "f1"),
            metric_name=_one_line(title),
            metric_value=round(record["metrics"][metric], 4),
        )
        for title, metric in _measured(record).items()
        if rows
    ]
    return ModelCardData(
        model_name=name,
        library_name="longread",
        pipeline_tag="fill-mask" if record["kind"] == "pretrain" else "text-classification",
        tags=["longread", *dict.fromkeys(record["attention"].split())],
        datasets=[hub_id] if hub_id else None,
        base_model=_base(record),
        metrics=list(dict.fromkeys(one.metric_type for one in results)) or None,
        eval_results=results or None,
    ).to_yaml(line_break="\n")


def _task(record: Mapping[str, Any]) -> Task:
    """Of a file of the user's the name alone: where it lies is nobody's business."""
    try:
        return find_task(record["task"])
    except UserError:  # a file that is gone
        return Task(Path(record["task"]).name, "", "")


def _hub_id(task: Task) -> str | None:
    if task.name.startswith("hub:"):
        return "/".join(task.name[4:].partition("@")[0].split("/")[:2])
    return task.hub_id


def _base(record: Mapping[str, Any]) -> str | None:
    """The Hub's name of the checkpoint that training began from."""
    init = record["init"]
    named = init != "scratch" and re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", init)
    return init if named and not Path(init).exists() else None


def _measured(record: Mapping[str, Any]) -> dict[str, str]:
    """Title -> metric. F1 of more than two classes is the macro F1, which is said once."""
    f1 = f1_name(record["dataset"]["label_names"])
    found: dict[str, str] = {}
    for metric in METRICS[problem_of(record)]:
        if metric in record["metrics"]:
            found.setdefault(f1 if metric == "f1" else METRIC_WORDS[metric], metric)
    return found


def _text(record: Mapping[str, Any], ends: Mapping[str, tuple[float, float]]) -> Iterator[str]:
    problem, names = problem_of(record), record["dataset"]["label_names"]
    where = plain(_task(record).name)
    of = "pair of texts" if record["dataset"]["train"].get("pairs") else "text"
    if record["kind"] == "pretrain":
        does = "has learned to guess masked words, and is to be fine-tuned: its classifier is untrained"
    elif problem == REGRESSION:
        does = f"predicts a number for each {of}"
    else:
        count = "any number" if problem == MULTI_LABEL else "one"
        does = f"gives each {of} {count} of {len(names):,} labels: {_listed(names)}"
    yield f"# {plain(record['attention'])}, trained on {where}\n"
    yield f"Made with longread {__version__}. It {does}.\n"
    yield from _use(record)
    yield from _results(record, ends, where)
    yield from _data(record, where)
    yield from _limits(record)
    yield from _making(record)


def _use(record: Mapping[str, Any]) -> Iterator[str]:
    if record["kind"] == "pretrain":
        yield "## Use\n"
        yield "```sh"
        yield f"longread train --task mail.csv --init {PLACE} --attention {shlex.quote(record['attention'])}"
        yield "```\n"
        return
    texts = '["a text"], ["what it is compared with"]' if record["dataset"]["train"].get("pairs") else '["a text"]'
    shown = {MULTI_LABEL: "answer.labels, answer.probabilities", REGRESSION: "answer.value"}
    yield "## Use\n"
    yield "```python"
    yield "import longread\n"
    yield f'classifier = longread.load("{PLACE}")  # or this folder'
    yield f"for answer in classifier.predict({texts}):"
    yield f"    print({shown.get(problem_of(record), 'answer.label, answer.probabilities')})"
    yield "```\n"


def _results(record: Mapping[str, Any], ends: Mapping[str, tuple[float, float]], where: str) -> Iterator[str]:
    rows, metrics = record["dataset"].get("eval"), record["metrics"]
    yield "## Results\n"
    if record["kind"] == "pretrain":
        done, part = record["pretraining"], record["pretraining"]["mask_fraction"]
        yield f"{part:.0%} of the tokens of {done['held_out_rows']:,} texts that it has not learned from were masked.\n"
        yield "| | Before | After |\n| --- | --- | --- |"
        for title, metric in (("Loss", "loss"), ("Perplexity", "perplexity"), ("Guessed right", "accuracy")):
            yield f"| {title} | {metrics[f'masked_{metric}_before']:.4g} | {metrics[f'masked_{metric}']:.4g} |"
        yield ""
        return
    if not rows:  # a distillation has a teacher and no labels
        yield "It was not evaluated: `longread evaluate` measures it on rows of yours.\n"
        return
    rounded = ", computed in bfloat16" if record["config"].get("eval_precision") == "bfloat16" else ""
    sample = f" of {rows['rows_of_split']:,}" if rows.get("rows_of_split", rows["rows"]) != rows["rows"] else ""
    yield f"On {rows['rows']:,}{sample} rows of {where}, split {plain(rows['split'])}{rounded}.\n"
    yield "| Metric | Value | 95 % interval |\n| --- | --- | --- |"
    for title, metric in _measured(record).items():
        none = "not computed" if metric == "average_precision" else "none: too few rows, or all agree"
        span = "{:.4g} to {:.4g}".format(*ends[metric]) if metric in ends else none
        yield f"| {plain(title)} | {metrics[metric]:.4g} | {span} |"
    yield "\nThe intervals cover the choice of rows, not that of the seed: this is one training run.\n"
    classes = list((record.get("per_class") or {}).items())
    if classes:
        yield "| Label | Precision | Recall | F1 | Rows |\n| --- | --- | --- | --- | --- |"
        for number, (name, one) in enumerate(classes[:SHOWN]):
            absent = is_absent(record, number)
            shares = " | ".join("–" if absent else f"{one[measure]:.3f}" for measure in ("precision", "recall", "f1"))
            yield f"| {plain(name)} | {shares} | {one['support']:,} |"
        yield f"\nand {len(classes) - SHOWN:,} more labels\n" if len(classes) > SHOWN else ""
    if record.get("calibration"):
        yield f"Expected calibration error: {record['calibration']['ece']:.3f} (0: probabilities mean what they say).\n"
    if decided := record.get("decision"):
        what = ["a temperature"] * ("temperature" in decided) + ["thresholds"] * ("thresholds" in decided)
        yield f"Chosen on {decided['rows']:,} rows held out of train: {' and '.join(what)}.\n"


def _data(record: Mapping[str, Any], where: str) -> Iterator[str]:
    data, task = record["dataset"], _task(record)
    rows, tokens = data["train"], data.get("tokens_per_row")
    sample = f" of {rows['rows_of_split']:,}" if rows.get("rows_of_split", rows["rows"]) != rows["rows"] else ""
    yield "## Data\n"
    yield f"- {where}: {rows['rows']:,}{sample} training rows (fingerprint `{rows['fingerprint']}`)"
    if tokens:
        yield f"- tokens of a row: {tokens['median']:,.0f} (median), {tokens['longest']:,} at most"
    if task.licence and task.licence != "yours":
        yield f"- licence of the data: {plain(task.licence)}"
    yield "- licence of this model: not stated; whoever publishes it adds `license:` to the metadata above\n"


def _limits(record: Mapping[str, Any]) -> Iterator[str]:
    yield "## Limits\n"
    longest = (record.get("encoder") or {}).get("max_length")
    cut, truncation = record.get("truncated_fraction") or 0.0, record["config"].get("truncation")
    if not longest:
        yield "- It counts words and pairs of words, wherever they stand; it reads texts of any length whole."
    elif truncation == "chunk":
        yield f"- It reads {longest:,} tokens at once, and all of a longer text in chunks."
    else:
        read = READS.get(truncation, "{:,} tokens").format(longest)
        yield f"- It reads {read} of a text; {cut:.1%} of the rows here were longer and were cut."
    if record["init"] == "scratch":
        yield "- It has learned from its training rows alone, not from any other text."
    yield "- Texts of another kind, time or language than those rows may go otherwise: that was not measured.\n"


def _making(record: Mapping[str, Any]) -> Iterator[str]:
    config, machine = record["config"], record.get("environment") or {}
    settings = [f"`{name}` {config[name]}" for name in SETTINGS if config.get(name) is not None]
    yield "## Training\n"
    if record["init"] != "scratch":
        yield f"- begun from {plain(_base(record) or Path(record['init']).name)}"
    for one in record.get("lineage") or ():
        yield f"- behind it: {KINDS.get(one['kind'], one['kind'])}, run `{one['run_id']}`, {one['seconds']:,.1f} s"
    if settings:
        yield f"- {', '.join(settings)}"
    yield f"- {record['train_seconds']:,.1f} s on {plain(machine.get('processor') or machine.get('device'))}"
    yield f"- run `{record['run_id']}`; its record has every setting\n"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(map(plain, names[:SHOWN])) + more
