"""The loop: exact accumulation, resuming to the same bits, records of runs that end badly."""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from checkpoints import POSTNORM, random_model, rewrite
from longread import records
from longread.config import LATER_FIELDS, RunConfig
from longread.data.batches import EpochBatches, micro_batches
from longread.data.dataset import Prepared, Split, prepare
from longread.data.load import load_split
from longread.data.tokenizer import Encoded, byte_tokenizer
from longread.errors import UserError
from longread.inference import predictor as classifier
from longread.inference.collate import Batch, made_ahead, make_batch, planned_batches
from longread.inference.evaluate import predict_split
from longread.inference.run import evaluate
from longread.models.checkpoint import save_pretrained
from longread.models.classifier import Classifier, build
from longread.problems import MULTI_LABEL, PROBLEM_TYPES, REGRESSION, SINGLE_LABEL, ProblemType
from longread.records.compact import compact
from longread.study.worker import CODES
from longread.training import events as heard
from longread.training import gradients
from longread.training import trainer as loop
from longread.training.classification import Validation, classification_trainer
from longread.training.optimize import make_optimizer, rate_at
from longread.training.resolve import resolve, resolve_machine
from longread.training.run import train
from longread.training.start import load_model
from longread.training.trainer import Trainer
from longread.training.work import tokens_per_row

SMALL: dict[str, Any] = {
    "train_rows": 48,
    "eval_rows": 16,
    "epochs": 2,
    "batch_size": 8,
    "hidden_size": 16,
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
    "vocab_size": 300,
    "max_length": 96,
    "threads": 1,
}


def small(out: Path, **changes: Any) -> RunConfig:
    return RunConfig(**(SMALL | {"out": out} | changes))


def trainer(model: Classifier, data: Prepared, config: RunConfig, directory: Path) -> Trainer:
    return classification_trainer(model, data, config, directory, lambda event: None)


def weights(run: records.Run) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(run.directory / "checkpoint" / "model.safetensors")


def as_problem(data: Prepared, problem: ProblemType) -> Prepared:
    """The same texts with other labels."""
    random = np.random.default_rng(0)
    labels = {
        SINGLE_LABEL: lambda split: split.labels,
        MULTI_LABEL: lambda split: (random.random((len(split), 3)) < 0.4).astype(np.int8),
        REGRESSION: lambda split: random.normal(5, 3, len(split)),
    }[problem]
    names = {SINGLE_LABEL: ("a", "b"), MULTI_LABEL: ("a", "b", "c"), REGRESSION: ("y",)}[problem]
    changed = (
        replace(split, labels=labels(split), label_names=names, problem_type=problem)
        for split in (data.train, data.evaluation)
    )
    return replace(data, **dict(zip(("train", "evaluation"), changed, strict=True)))


@pytest.mark.parametrize(
    ("attention", "problem"),
    [("bigbird", SINGLE_LABEL), ("linformer", SINGLE_LABEL), *(("dense", problem) for problem in PROBLEM_TYPES)],
)
def test_micro_batches_give_the_update_of_the_whole_batch(tmp_path: Path, attention: str, problem: ProblemType) -> None:
    """With dropout too: a token's random numbers are those of its place in the batch."""
    smoothing = 0.0 if problem == REGRESSION else 0.1
    config = resolve_machine(resolve(small(tmp_path, attention=attention, label_smoothing=smoothing)), 16)
    config = replace(config, class_weights="balanced" if problem == SINGLE_LABEL else "none", token_dropout=0.1)
    data = as_problem(prepare(config.data_config(), 96), problem)
    results = []
    for tokens in (100_000, 150, 1):
        model = build(attention, vocab_size=data.tokenizer.vocab_size, hidden_size=16, num_attention_heads=2,
                      num_hidden_layers=1, max_length=96, dropout=0.2, problem_type=problem,
                      num_labels=len(data.train.label_names)).double()  # fmt: skip
        run = trainer(model.train(), data, replace(config, tokens_per_micro_batch=tokens), tmp_path)
        steps = EpochBatches(len(data.train), 8, 0, 0)[:3]
        planned = run.gradients.planned(steps, run.step)
        for indices in steps:
            run._step(indices, planned)
        results.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    scale = results[0].abs().max()
    for other in results[1:]:
        assert (other - results[0]).abs().max() / scale < 1e-10


def test_a_step_is_torchs_own_with_plain_gradients(tmp_path: Path) -> None:
    """The embedding's gradient by rows, and its clipping, give the update that dense gradients give."""
    config = resolve_machine(resolve(small(tmp_path, dropout=0.0, gradient_clip=0.05, weight_decay=0.1)), 16)
    data = prepare(config.data_config(), 96)
    models = [
        build("dense", vocab_size=data.tokenizer.vocab_size, hidden_size=16, num_attention_heads=2, num_hidden_layers=1,
              max_length=96, dropout=0.0).double()
        for _ in range(2)
    ]  # fmt: skip
    run = trainer(models[0], data, config, tmp_path)
    assert run.gradients.table is not None
    optimizer = make_optimizer(models[1], config, config.learning_rate or 0.0)
    rates = [group["lr"] for group in optimizer.param_groups]
    for step, indices in enumerate(EpochBatches(len(data.train), 8, 0, 0)[:4]):
        run._step(indices, run.gradients.planned([indices], run.step))
        batch = make_batch(data.train, indices, torch.device("cpu"))
        loss = torch.nn.functional.cross_entropy(models[1].classify(batch.tokens, batch.packed), batch.labels)
        loss.backward()
        assert torch.nn.utils.clip_grad_norm_(models[1].parameters(), config.gradient_clip) > config.gradient_clip
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * rate_at(step, run.steps, config)
        optimizer.step()
        optimizer.zero_grad()
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert (one - other).abs().max() < 1e-12


@pytest.mark.parametrize(("stop_at", "choose_epoch"), [(2, "last"), (6, "best"), (9, "best")])
@pytest.mark.parametrize("average_weights", [0.0, 0.9])
def test_a_stopped_run_resumes_to_the_same_bits(
    tmp_path: Path, stop_at: int, choose_epoch: str, average_weights: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_EVENTS", 0.0)
    changes: dict[str, Any] = {
        "choose_epoch": choose_epoch,
        "average_weights": average_weights,
        "dropout": 0.2,
        "token_dropout": 0.1,
        "attention": "performer",
    }
    whole = train(small(tmp_path / "whole", **changes))

    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "progress" and event["step"] == stop_at:
            os.kill(os.getpid(), signal.SIGINT)

    config = small(tmp_path / "stopped", **changes)
    stopped = train(config, on_event=stop)
    assert stopped.record["status"] == "interrupted"
    assert CODES[stopped.record["status"]] == 130
    events: list[dict[str, Any]] = []
    resumed = train(config, resume=True, on_event=events.append)
    assert any(event["event"] == "resumed" and event["step"] == stop_at for event in events)
    assert resumed.record["status"] == "ok"
    assert resumed.record["run_id"] == whole.record["run_id"]
    first, second = weights(whole), weights(resumed)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    a, b = whole.predictions(), resumed.predictions()
    assert a is not None
    assert b is not None
    np.testing.assert_array_equal(a["probabilities"], b["probabilities"])
    timeless = [
        [{k: v for k, v in line.items() if "seconds" not in k} for line in run.history()] for run in (whole, resumed)
    ]
    assert timeless[0] == timeless[1]
    assert whole.record["padded_fraction"] == resumed.record["padded_fraction"]


def test_a_run_is_recorded_whole_used_again_and_never_repeated(tmp_path: Path) -> None:
    config = small(tmp_path, attention="longformer", attention_window=8)
    run = train(config)
    record = json.loads((run.directory / "run.json").read_text())
    assert len(record.pop("checksum")) == 16
    assert record["status"] == "ok"
    assert record["config"]["attention_window"] == 8
    assert "projection_size" not in record["config"]  # the task suggests one, but this mechanism has none
    assert record["environment"]["precision"] in ("float32", "bfloat16")
    # 0 where the tests before had taken more than this run needs
    assert 0 <= record["peak_memory_bytes"] < 2**31
    assert record["effective_attention"] == {"window+global": 1.0}
    assert 0 < record["truncated_fraction"] <= 1  # 96 tokens cut reviews of 128
    assert len(run.history()) == 2
    predictions = run.predictions()
    assert predictions is not None
    assert record["metrics"]["accuracy"] == (predictions["predicted"] == predictions["label"]).mean()
    events: list[dict[str, Any]] = []
    again = train(config, on_event=events.append)
    assert [event["event"] for event in events] == ["skipped"]
    assert again.record == record
    found = classifier.load(run.directory)
    examples = load_split(config.data_config())
    labels = [prediction.label for prediction in found.predict(examples.texts)]
    assert labels == [examples.label_names[i] for i in predictions["predicted"]]
    measured = evaluate(replace(config, task="reviews"), run.directory)
    assert measured.record["kind"] == "evaluate"
    assert measured.record["metrics"]["accuracy"] == record["metrics"]["accuracy"]
    assert run.directory.joinpath("attention_map.json").stat().st_size < 100_000
    compact(tmp_path, tmp_path / "kept")  # kept with its study, without its folder
    assert train(replace(config, out=tmp_path / "kept"), on_event=events.append).record == record
    assert [event["event"] for event in events] == ["skipped", "skipped"]


def test_a_diverging_run_is_a_record(tmp_path: Path) -> None:
    run = train(small(tmp_path, learning_rate=1e30, gradient_clip=0.0, schedule="constant"))
    assert run.record["status"] == "diverged"
    assert "learning-rate" in run.record["error"]
    assert records.load_runs(tmp_path)[0].record["status"] == "diverged"


def test_the_seed_decides_everything_and_is_no_part_of_the_sample(tmp_path: Path) -> None:
    one, again, other = (train(small(tmp_path / name, seed=seed)) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert all(torch.equal(weights(one)[name], tensor) for name, tensor in weights(again).items())
    assert one.record["run_id"] == again.record["run_id"] != other.record["run_id"]
    assert one.record["dataset"]["train"] == other.record["dataset"]["train"]
    assert not all(torch.equal(weights(one)[name], tensor) for name, tensor in weights(other).items())


def test_best_epoch_and_patience_look_at_rows_held_out_of_train(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "longread"):
        run = train(small(tmp_path, choose_epoch="best", patience=1, epochs=6))
    lines = run.history()
    best = max(lines, key=lambda line: (line["selection_accuracy"], -line["epoch"]))
    assert run.record["chosen_epoch"] == best["epoch"]
    assert len(lines) == min(6, best["epoch"] + 1) < 6
    told = f"after epoch {len(lines)} of 6: accuracy on the held-out rows was best after epoch {best['epoch']}"
    assert f"--patience 1 ends training {told}" in caplog.text
    assert run.record["dataset"]["train"]["rows"] + run.record["dataset"]["selection"]["rows"] == 48


def test_frozen_layers_stay(tmp_path: Path) -> None:
    run = train(small(tmp_path, frozen_layers=1, num_hidden_layers=2, norm_position="post"))
    fresh = build("dense", vocab_size=run.record["encoder"]["vocab_size"], hidden_size=16, num_attention_heads=2,
                  num_hidden_layers=2, max_length=96, norm_position="post")  # fmt: skip
    trained = classifier.load(run.directory).model.state_dict()
    for name, tensor in fresh.state_dict().items():
        frozen = name.startswith(("embeddings", "blocks.0"))
        assert torch.equal(tensor, trained[name]) is frozen or tensor.abs().sum() == 0
    with pytest.raises(UserError, match="--frozen-layers 3: the model has 2 layers"):
        train(small(tmp_path, frozen_layers=3, num_hidden_layers=2))


@pytest.mark.parametrize("decay", [0.5, 0.999])
def test_the_mean_of_the_weights_is_evaluated_and_kept(tmp_path: Path, decay: float) -> None:
    config = resolve_machine(resolve(small(tmp_path, average_weights=decay, epochs=2)), 16)
    data = prepare(config.data_config(), 96)
    model = build("dense", vocab_size=data.tokenizer.vocab_size, hidden_size=16, num_attention_heads=2,
                  num_hidden_layers=1, max_length=96)  # fmt: skip
    run = trainer(model, data, config, tmp_path)
    expected = [p.detach().clone() for p in model.parameters()]
    step, seen = run._step, 0

    def watched(indices: np.ndarray, planned: Iterator[Batch]) -> float:
        nonlocal expected, seen
        loss, seen = step(indices, planned), seen + 1
        share = max(1 - decay, 1 / (seen + 1))
        expected = [
            (1 - share) * mean + share * p.detach() for mean, p in zip(expected, model.parameters(), strict=True)
        ]
        return loss

    run._step = watched  # type: ignore[method-assign]
    run.run()
    for mean, kept in zip(expected, model.parameters(), strict=True):
        torch.testing.assert_close(kept.detach(), mean)
    assert isinstance(run.evaluation, Validation)
    again = predict_split(model, data.evaluation, tokens=run.gradients.tokens, device=run.gradients.device)
    np.testing.assert_array_equal(run.evaluation.predictions().answers, again.answers)


def test_lower_layers_learn_slower_and_new_weights_faster() -> None:
    model = build("linformer", vocab_size=20, hidden_size=8, num_attention_heads=2, num_hidden_layers=2, max_length=16,
                  projection_rate=0.2)  # fmt: skip
    optimizer = make_optimizer(model, RunConfig(layer_decay=0.5, new_weights_rate=10.0), 1e-2)
    assert optimizer.defaults["fused"]
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    found = {name: rates[id(p)] for name, p in model.named_parameters()}
    assert found["head.classifier.weight"] == pytest.approx(0.1)
    assert found["blocks.1.attention.query.weight"] == pytest.approx(5e-3)
    assert found["blocks.0.up.bias"] == pytest.approx(2.5e-3)
    assert found["blocks.0.attention.key_projection"] == pytest.approx(5e-3)
    assert found["embeddings.word.weight"] == pytest.approx(1.25e-3)


def test_a_checkpoints_own_dropout_is_kept_and_all_of_a_new_head_learns_faster(tmp_path: Path) -> None:
    """RoBERTa's head has a dense layer before its classifier: pretraining has seen neither."""
    settings = POSTNORM | {"dropout": 0.3, "attention_dropout": 0.2, "classifier_dropout": 0.4, "position_offset": 2}
    save_pretrained(random_model(settings | {"type_vocab_size": 1}), tmp_path, layout="huggingface")
    rewrite(tmp_path, lambda name, tensor: None if name.startswith("classifier.") else (name, tensor))
    config = RunConfig(init=str(tmp_path), new_weights_rate=10.0)

    def loaded(**changes: Any) -> Classifier:
        return load_model(resolve(replace(config, **changes)), ("bad", "so so", "good"))

    model = loaded()
    assert (model.config.dropout, model.config.attention_dropout, model.config.classifier_dropout) == (0.3, 0.2, 0.4)
    assert model.head.dropout.rate == 0.4
    given = loaded(dropout=0.0, attention_dropout=0.1)
    assert (given.config.dropout, given.config.attention_dropout, given.head.dropout.rate) == (0.0, 0.1, 0.0)
    optimizer = make_optimizer(model, config, 1e-3)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        assert rates[id(parameter)] == pytest.approx(1e-2 if name.startswith("head.") else 1e-3), name


def test_a_classifier_over_positions_on_filled_rows(tmp_path: Path) -> None:
    config = resolve(small(tmp_path, pooling="positions", fill_rows=True, max_length=400))
    data, plain = prepare(config.data_config(), 400), prepare(replace(config.data_config(), fill_rows=False), 400)
    assert (data.train.lengths == 400).all() and plain.train.lengths.min() < 400
    pad = data.tokenizer.pad_id
    for row in range(len(plain.train)):
        own, _ = plain.train.gather(np.array([row]))
        full, _ = data.train.gather(np.array([row]))
        assert full[: len(own)].tolist() == own.tolist()
        assert set(full[len(own) :].tolist()) <= {pad}
    run = train(config)
    assert run.record["config"]["fill_rows"] is True
    assert classifier.load(run.directory).model.config.pooling == "positions"
    with pytest.raises(UserError, match="--pooling positions: only from scratch"):
        resolve(replace(config, init="some/checkpoint"))
    with pytest.raises(UserError, match="projection_init: only from scratch"):
        resolve(replace(config, attention="linformer", pooling=None, projection_init="fold", init="some/checkpoint"))


def test_records_made_before_a_field_existed_keep_their_names() -> None:
    assert not LATER_FIELDS.keys() & RunConfig().named().keys()
    assert RunConfig(new_weights_rate=2.0, fill_rows=True).named()["new_weights_rate"] == 2.0


def test_a_run_may_be_evaluated_in_bfloat16_and_its_record_says_so(tmp_path: Path) -> None:
    given: dict[str, Any] = {"precision": "float32", "hidden_size": 64, "learning_rate": 1e-2}
    wide, rounded = (train(small(tmp_path, eval_precision=p, **given)) for p in ("float32", "bfloat16"))
    assert "eval_precision" not in wide.record["config"]
    assert rounded.record["config"]["eval_precision"] == "bfloat16"
    told = [", computed in bfloat16." in (r.directory / "checkpoint/README.md").read_text() for r in (wide, rounded)]
    assert told == [False, True]
    model = classifier.load(rounded.directory).model
    for name, value in classifier.load(wide.directory).model.state_dict().items():  # training is the same
        torch.testing.assert_close(value, model.state_dict()[name], rtol=0, atol=0)
    rows = prepare(resolve(small(tmp_path)).data_config(), 96).evaluation
    for run, precision in ((wide, "float32"), (rounded, "bfloat16")):
        told = run.predictions()
        assert told is not None
        again = predict_split(model, rows, tokens=4096, device=torch.device("cpu"), precision=precision)
        np.testing.assert_allclose(told["probabilities"], again.answers, rtol=0, atol=1e-6)
    assert np.abs(wide.predictions()["probabilities"] - rounded.predictions()["probabilities"]).max() > 1e-5  # type: ignore[index]


def test_an_evaluation_says_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heard, "SECONDS_BETWEEN_EVENTS", 0.0)
    events: list[dict[str, Any]] = []
    train(small(tmp_path, choose_epoch="best", tokens_per_micro_batch=200), on_event=events.append)
    told = [event for event in events if event["event"] == "evaluating"]
    for name, rows in (("evaluation", 16), ("held-out", 5)):
        own = [event for event in told if event["name"] == name]
        ends = [event["rows"] for event in own if event["seconds_left"] == 0]
        assert ends == [rows] * len(ends) and 2 <= len(ends) < len(own)  # two epochs, of several batches
        assert all(event["of"] == rows for event in own)


def test_every_row_is_seen_once_an_epoch_and_no_budget_is_exceeded() -> None:
    lengths = np.random.default_rng(0).integers(1, 400, 103)
    batches = EpochBatches(103, 10, seed=3, epoch=4)
    assert sorted(np.concatenate(batches).tolist()) == list(range(103))
    assert not np.array_equal(batches[0], EpochBatches(103, 10, seed=3, epoch=5)[0])
    assert not np.array_equal(batches[0], EpochBatches(103, 10, seed=2, epoch=4)[0])
    for budget in (1, 399, 1000):
        for batch in batches:
            parts = list(micro_batches(batch, lengths, budget))
            assert sorted(np.concatenate(parts).tolist()) == sorted(batch.tolist())
            for part in parts:
                assert lengths[part].sum() <= budget or len(part) == 1


@pytest.mark.parametrize("rows", [1, 2, 7, 40])
def test_tokens_per_row_are_numpys_mean_and_median(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("longread.training.work.PART", 3)
    lengths = np.random.default_rng(rows).integers(1, 9, rows)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    encoded = Encoded(np.zeros(offsets[-1], dtype=np.int32), offsets, None, np.zeros(rows, dtype=bool))
    none = np.zeros(rows, dtype=np.int64)
    found = tokens_per_row(Split(encoded, none, none, "train", "own", ("a", "b"), ""))
    assert found == {"mean": lengths.mean(), "median": np.median(lengths), "longest": lengths.max()}


def test_the_learning_rate_rises_then_falls() -> None:
    config = RunConfig(warmup_fraction=0.1, schedule="linear")
    rates = [rate_at(step, 100, config) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == 1.0
    assert rates.index(1.0) in (9, 10)
    assert 0 < rates[-1] < 0.02
    assert rate_at(99, 100, replace(config, schedule="constant")) == 1.0


def test_batches_made_in_a_thread_train_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on an accelerator; token dropout and dropout draw the same numbers whenever a batch is made."""
    results = []
    for threaded in (False, True):
        if threaded:
            monkeypatch.setattr(
                gradients, "planned_batches", lambda *given, **more: made_ahead(planned_batches(*given, **more), 2)
            )
        run = train(small(tmp_path / str(threaded), dropout=0.2, token_dropout=0.2, tokens_per_micro_batch=150))
        results.append(weights(run))
    for name, tensor in results[0].items():
        assert torch.equal(tensor, results[1][name]), name


def test_the_record_names_the_pattern_that_ran(tmp_path: Path) -> None:
    """Of a model whose layers alternate, `--attention longformer` takes the place of the dense layers alone."""
    tokenizer = byte_tokenizer()
    tokenizer.save(tmp_path / "tokenizer.json")
    model = build("dense local", local_window=8, vocab_size=tokenizer.vocab_size, hidden_size=16,
                  num_attention_heads=2, num_hidden_layers=2, max_length=96)  # fmt: skip
    model.tokenizer_file = tmp_path / "tokenizer.json"
    save_pretrained(model, tmp_path / "alternating")
    shape = ("hidden_size", "num_attention_heads", "num_hidden_layers", "vocab_size")
    settings = {name: value for name, value in SMALL.items() if name not in shape}
    run = train(RunConfig(**settings, out=tmp_path / "out", init=str(tmp_path / "alternating"), attention="longformer"))
    assert run.record["status"] == "ok", run.record["error"]
    assert run.record["attention"] == run.record["encoder"]["attention"] == "longformer local"
    assert run.record["mechanism"]["title"] == "Longformer-Local"
    kept = train(RunConfig(**settings, out=tmp_path / "out", init=str(tmp_path / "alternating"), attention="dense"))
    assert kept.record["status"] == "ok", kept.record["error"]
    assert (kept.record["attention"], kept.record.get("conversion")) == ("dense local", None)


def test_a_checkpoint_is_trained_on_rows_that_are_read_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [f"text {n % 20},{'ab'[n % 2]}\n" for n in range(80)]
    (tmp_path / "mail.csv").write_text("text,label\n" + "".join(rows))
    given = SMALL | {"train_rows": None, "eval_rows": None, "epochs": 1, "task": str(tmp_path / "mail.csv")}
    first = train(RunConfig(**given, out=tmp_path / "first"))
    caplog.clear()
    for name in ("hidden_size", "num_attention_heads", "num_hidden_layers", "vocab_size", "max_length"):
        del given[name]
    train(RunConfig(**given, out=tmp_path / "out", init=str(first.directory / "checkpoint")))
    assert caplog.text.count("have a text that a training row has, too") == 1
