"""A checkpoint evaluated on a task: from configuration to record."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from longread import records
from longread.config import RunConfig
from longread.data.dataset import Split, split_of, tokenize
from longread.data.examples import Examples
from longread.data.labels import placeholders
from longread.data.load import load_split
from longread.data.tasks import find_task
from longread.data.tokenizer import Tokenizer, load_tokenizer
from longread.errors import UserError
from longread.inference.evaluate import split_logits
from longread.inference.metrics import answers_of, mean_loss, metrics, predicted_of
from longread.inference.origin import folder_of, origin_of
from longread.inference.predictor import load
from longread.inference.quality import Evaluated, closer_look
from longread.inference.reading import Cut, Reading, read, whole_lengths
from longread.inference.run_linear import evaluate_linear
from longread.models import linear
from longread.models.checkpoint import from_pretrained
from longread.models.int8 import to_int8
from longread.models.loading import check_answers, check_tokenizer
from longread.models.weights import weights_fingerprint
from longread.problems import REGRESSION
from longread.records import Dataset, Environment, Run, RunRecord, SplitRecord
from longread.system import runtime
from longread.system.measure import PeakMemory, environment, foreign_load

# What decides which rows of a table were held out, and what its columns mean.
ROWS_OF_THE_TASK = ("validation_fraction", "sample_seed", "text_columns", "label_columns", "label_separator",
                    "encoding", "delimiter")  # fmt: skip


def default_task(checkpoint: str | Path, eval_file: str | None) -> str:
    """What the checkpoint was trained on, or else the file by itself. UserError where there is neither."""
    made_by = origin_of(checkpoint)
    if made_by is not None and not (eval_file and find_task(made_by.task).generate):
        return made_by.task
    if eval_file is None:
        raise UserError(f"{checkpoint}: it is not known what this was trained on; give --task or --eval-file")
    return eval_file


def as_trained(config: RunConfig, checkpoint: str | Path) -> RunConfig:
    """On the task that the checkpoint was trained on, what was not given is as it was in training.

    Otherwise other rows would be held out, and the model be scored on rows that it has seen.
    """
    made_by = origin_of(checkpoint)
    if made_by is None or not _same_place(made_by.task, config.task):
        return config
    values = {name: made_by.config.get(name) for name in ROWS_OF_THE_TASK}
    changes: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in values.items()
        if value is not None and getattr(config, name) == getattr(RunConfig, name)
    }
    return replace(config, **changes)


def _same_place(one: str, other: str) -> bool:
    return one == other or (Path(one).exists() and Path(one).resolve() == Path(other).resolve())


def evaluate(
    config: RunConfig,
    checkpoint: str | Path,
    *,
    tokenizer: str | None = None,
    untrained_head: bool = False,
    cut: Cut | None = None,
) -> Run:
    """The run of `evaluated`."""
    return evaluated(config, checkpoint, tokenizer=tokenizer, untrained_head=untrained_head, cut=cut).run


def evaluated(
    config: RunConfig,
    checkpoint: str | Path,
    *,
    tokenizer: str | None = None,
    untrained_head: bool = False,
    cut: Cut | None = None,
) -> Evaluated:
    """A checkpoint on a task without any training; the record is written like a training run's.

    `config` names the task, its rows and how to compute; the checkpoint's own shape counts, not the configuration's.
    Scored are the rows of `eval_file`, or the task's evaluation rows; of a single table the part that is held out of
    training. Labels are read against the model's names. UserError for a label that the model does not know, and for a
    classifier that was never trained, unless untrained_head asks for it: its time is then the result.
    """
    if linear.is_linear(folder_of(checkpoint)):
        unused = {"tokenizer": tokenizer, "untrained_head": untrained_head or None} | vars(cut or Cut())
        return evaluate_linear(as_trained(config, checkpoint), checkpoint, unused)
    load_now = foreign_load()
    device = runtime.pick_device(config.device)
    torch.set_num_threads(config.threads or torch.get_num_threads())
    memory = PeakMemory(device)
    own = dict(config.options)
    if tokenizer is None:
        classifier = load(checkpoint, str(device), untrained_head=untrained_head, **own)
        model, chosen, names = classifier.model, classifier.tokenizer, classifier.label_names
    else:
        model = from_pretrained(checkpoint, **own).to(device).eval()
        check_answers(model, untrained_head=untrained_head)
        chosen = load_tokenizer(tokenizer)
        check_tokenizer(model, chosen)
        names = model.config.label_names or placeholders(model.config.num_labels)
    problem = model.config.problem_type
    assert problem is not None
    if config.problem_type not in (None, problem):
        raise UserError(f"--problem-type {config.problem_type}: {checkpoint} was trained for {problem}")
    config = replace(as_trained(config, checkpoint), problem_type=problem)
    data = config.data_config()
    examples = load_split(data, label_names=names)
    if examples.fingerprint == model.decision.fingerprint:
        raise UserError(f"{checkpoint}: these are the rows that its temperature was chosen on; evaluate it on others")
    limit = min(config.max_length or chosen.limit(model.config.max_length), model.config.max_length)
    cut = cut or Cut()
    split, reading = _sequences(examples, chosen, limit, cut, data.cache)
    machine = runtime.resolve_machine(
        model.config.hidden_size,
        device=config.device,
        precision="float32" if config.precision == "auto" else config.precision,
        tokens_per_micro_batch=config.tokens_per_micro_batch,
        threads=config.threads,
    )
    settings = replace(
        config, attention=model.config.attention, init=str(checkpoint), max_length=limit, **vars(machine)
    )
    assert settings.tokens_per_micro_batch
    weights, parameters = weights_fingerprint(model), model.num_parameters
    if settings.precision == "int8":
        model = to_int8(model)
    done = split_logits(
        model, split, tokens=settings.tokens_per_micro_batch, device=device, precision=settings.precision
    )
    named = {k: v for k, v in settings.named().items() if k in EVALUATION_SETTINGS or k in own}
    named |= {name: value for name, value in vars(cut).items() if value}
    decided, thresholds = model.decision.to_json(), model.decision.of(names)
    prints = [split.fingerprint, chosen.fingerprint, weights]
    name = records.run_id("evaluate", named, 0, prints + [records.canonical(decided)] * bool(decided))
    logits = done.logits if reading is None else reading.pooled(done.logits, problem)
    answers, loss = answers_of(logits, problem), mean_loss(logits, examples.labels, problem)
    count = len(examples.labels)
    seen = SplitRecord(
        **split.describe() | {"rows": count}, rows_of_split=find_task(config.task).split_rows.get(split.name)
    )
    read = split.encoded if reading is None else reading
    look = closer_look(
        examples.labels, answers, split.label_names, problem, thresholds=thresholds,
        tokens=split.lengths if reading is None else reading.tokens,
        truncated=read.truncated,
        tokens_in_text=whole_lengths(chosen, examples.texts, examples.pairs, split.encoded)
        if reading is None else reading.tokens_in_text,
    )  # fmt: skip
    record = RunRecord(
        run_id=name,
        kind="evaluate",
        status="ok",
        task=config.task,
        attention=model.config.attention,
        mechanism=model.config.look(),
        init=str(checkpoint),
        config=named,
        encoder=model.config.to_dict(),
        seed=0,
        metrics=metrics(examples.labels, answers, problem, thresholds) | {"loss": loss},
        **look,
        decision=decided or None,
        head_is_untrained=bool(model.loading and model.loading.head_is_untrained),
        train_seconds=0.0,
        eval_seconds=done.seconds,
        cpu_seconds=done.cpu_seconds,
        samples_per_second=count / done.seconds,
        tokens_per_second=done.usage.tokens / done.seconds,
        peak_memory_bytes=memory.bytes(),
        memory_kind=memory.kind,
        num_parameters=parameters,
        truncated_fraction=float(read.truncated.mean()),
        padded_fraction=done.usage.padded_fraction,
        effective_attention=done.usage.effective_attention,
        dataset=Dataset(label_names=split.label_names, problem_type=problem, eval=seen),
        environment=Environment(
            **environment(device, settings.precision), load_at_start=load_now, load_at_end=foreign_load()
        ),
    )
    directory = config.out / "runs" / name
    directory.mkdir(parents=True, exist_ok=True)
    records.write_predictions(
        directory / "predictions.parquet",
        examples.rows,
        examples.labels,
        None if problem == REGRESSION else answers,
        predicted_of(answers, problem, thresholds),
    )
    return Evaluated(records.write_record(config.out, record), examples, answers, thresholds)


def _sequences(
    examples: Examples, tokenizer: Tokenizer, limit: int, cut: Cut, cache: Path | None
) -> tuple[Split, Reading | None]:
    """What the model is given; and where it is not asked for otherwise than in training, which texts it is of."""
    if cut.truncation is None:
        return tokenize(examples, tokenizer, limit, cache), None
    reading = read(tokenizer, examples.texts, examples.pairs, limit, cut)
    rows = replace(examples, labels=examples.labels[reading.text_of], rows=examples.rows[reading.text_of])
    return split_of(rows, tokenizer, reading.encoded), reading


EVALUATION_SETTINGS = ("task", "attention", "init", "eval_rows", "sample_seed", "max_length",
                       "precision", "tokens_per_micro_batch", "device", "text_columns", "label_columns",
                       "label_separator", "validation_fraction", "encoding", "delimiter", "eval_file")  # fmt: skip
