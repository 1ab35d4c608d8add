"""What is chosen on rows held out of train: the epoch, a temperature, thresholds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import longread
from longread import records
from longread.config import RunConfig
from longread.errors import UserError
from longread.inference.evaluate import Predictions
from longread.inference.metrics import metrics
from longread.inference.run import evaluate
from longread.models.classifier import build
from longread.models.export import metadata
from longread.problems import MULTI_LABEL, PROBLEM_TYPES, REGRESSION, SINGLE_LABEL
from longread.training.choice import CHOICES, check_choices, decide
from longread.training.classification import Validation
from longread.training.run import train
from longread.training.start import load_model

LABELS = np.array([0, 0, 0, 1])
# Of three epochs: what the held-out rows are given, and the loss that is said to be theirs.
EPOCHS = [([0.9, 0.9, 0.9, 0.6], 0.9), ([0.9, 0.4, 0.4, 0.4], 0.7), ([0.9, 0.9, 0.4, 0.6], 0.5)]


@pytest.mark.parametrize(
    ("metric", "epoch"), [("accuracy", 1), ("f1", 2), ("f1:ham", 1), ("f1_macro", 2), ("loss", 3), (None, 1)]
)
def test_the_epoch_that_is_kept_is_the_best_by_the_metric(metric: str | None, epoch: int) -> None:
    model = build("dense", num_hidden_layers=0, hidden_size=8, num_attention_heads=1, vocab_size=9)
    rows = SimpleNamespace(labels=LABELS, label_names=("ham", "spam"), problem_type=SINGLE_LABEL)
    data: Any = SimpleNamespace(selection=rows, evaluation=rows)
    validation = Validation(model, data, RunConfig(choose_by=metric, choose_epoch="best", patience=5))
    for number, (ham, loss) in enumerate(EPOCHS, start=1):
        answers = np.array([[p, 1 - p] for p in ham])
        done = Predictions(answers, loss, 1.0, 1.0, None)  # type: ignore[arg-type]
        validation._predict = lambda split, done=done: done  # type: ignore[method-assign, misc]
        torch.nn.init.constant_(model.head.classifier.bias, number)
        line = validation.after_epoch(number)
        assert f"selection_{metric or 'accuracy'}" in line
    validation.end(3)
    assert (validation.chosen_epoch, model.head.classifier.bias[0].item()) == (epoch, epoch)


def test_every_metric_that_is_offered_is_measured() -> None:
    answers, labels = np.array([[0.4, 0.6], [0.7, 0.3]]), np.array([1, 0])
    measured = {
        SINGLE_LABEL: metrics(labels, answers),
        MULTI_LABEL: metrics(np.stack([labels, labels], 1), answers, MULTI_LABEL),
        REGRESSION: metrics(labels.astype(float), answers[:, :1], REGRESSION),
    }
    for problem in PROBLEM_TYPES:
        assert {*CHOICES[problem]} == {*measured[problem], "loss"}


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> tuple[records.Run, records.Run]:
    """A run with a temperature and a threshold, and the same one without; some labels are wrong."""
    folder = tmp_path_factory.mktemp("mail")
    random = np.random.default_rng(0)
    lines = []
    for number in range(160):
        spam = random.random() < 0.3
        words = "win a prize now" if spam else "see you at noon"
        lines.append(f"{words} {number},{'spam' if spam != (random.random() < 0.25) else 'ham'}")
    (folder / "mail.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    config = RunConfig(
        task=str(folder / "mail.csv"), epochs=4, learning_rate=3e-3, hidden_size=16, num_attention_heads=2,
        vocab_size=300, max_length=32, threads=1, selection_fraction=0.3, validation_fraction=0.2, patience=9,
        out=folder / "out",
    )  # fmt: skip
    return train(replace(config, calibrate=True, choose_threshold="f1")), train(config)


def test_temperature_and_threshold_are_kept_recorded_and_used(chosen: tuple[records.Run, records.Run]) -> None:
    run, plain = chosen
    own = run.record["decision"]
    assert own["rows"] == run.record["dataset"]["selection"]["rows"] and "decision" not in plain.record
    assert [own["thresholds"].keys(), own["threshold_metric"]] == [{"spam"}, "f1"]
    clf, before = longread.load(run.directory), longread.load(plain.directory)
    assert clf.decision.to_json() == own
    scaled, whole = (one.model.head.classifier for one in (clf, before))
    torch.testing.assert_close(scaled.weight * own["temperature"], whole.weight)
    torch.testing.assert_close(scaled.bias * own["temperature"], whole.bias)
    answers = clf.predict([f"win a prize now {n}" for n in range(20)] + [f"see you at noon {n}" for n in range(20)])
    limit = own["thresholds"]["spam"]
    assert [one.label for one in answers] == ["spam" if one.probabilities["spam"] > limit else "ham" for one in answers]
    assert {one.label for one in answers} == {"ham", "spam"}
    assert answers[0].answer(SINGLE_LABEL)["thresholds"] == own["thresholds"]
    again = evaluate(RunConfig(task=run.record["task"], out=run.directory.parents[1], threads=1), run.directory)
    measured = {name: value for name, value in run.record["metrics"].items() if name != "train_accuracy"}
    assert again.record["metrics"] == pytest.approx(measured, rel=1e-4)
    assert again.record["confusion_matrix"] == run.record["confusion_matrix"]
    assert again.record["decision"] == own
    found = again.predictions()
    assert found is not None
    assert np.array_equal(found["predicted"], (found["probabilities"][:, 1] > limit).astype(int))
    assert metadata(clf.model, False, None)["decision"] == own
    checkpoint = str(run.directory / "checkpoint")
    assert load_model(RunConfig(init=checkpoint), None).decision.to_json() == {}, "training makes other weights"


def test_each_of_several_labels_has_its_own_threshold() -> None:
    logits = np.array([[2.0, -1.0], [1.0, -2.0], [0.5, -3.0], [-1.0, -4.0]])
    labels = np.array([[1, 1], [1, 1], [0, 0], [0, 0]])
    found = decide(RunConfig(choose_threshold="f1"), logits, labels, ("a", "b"), MULTI_LABEL)
    limits = 1 / (1 + np.exp([-0.75, 2.5]))
    assert found.of(("a", "b")) == pytest.approx(tuple(limits), abs=0.02)
    assert found.temperature is None


def test_a_threshold_is_for_the_class_that_is_asked_for() -> None:
    logits = np.log([[0.9, 0.1], [0.7, 0.3], [0.6, 0.4], [0.2, 0.8], [0.1, 0.9]])
    labels = np.array([0, 1, 1, 1, 1])
    config = RunConfig(choose_threshold="f1", choose_by="f1:ham")
    (limit,) = decide(config, logits, labels, ("ham", "spam"), SINGLE_LABEL).of(("ham", "spam")) or ()
    assert 0.1 < limit < 0.3, "only the first row is ham"


def test_no_temperature_is_taken_from_rows_that_tell_none(caplog: pytest.LogCaptureFixture) -> None:
    logits = np.array([[3.0, 0.0]] * 9)
    found = decide(RunConfig(calibrate=True), logits, np.zeros(9, int), ("a", "b"), SINGLE_LABEL)
    assert found.temperature is None and "9 rows tell no temperature: all of them are answered right" in caplog.text
    caplog.clear()
    small = np.array([[0.01, 0.0], [0.0, 0.01], [0.01, 0.0], [0.0, 0.01], [0.0, 0.001]])
    assert (
        decide(RunConfig(calibrate=True), small, np.array([0, 1, 0, 1, 0]), ("a", "b"), SINGLE_LABEL).temperature
        is None
    )
    assert "5 rows tell no temperature: the logits are all near 0" in caplog.text
    labels = np.arange(30) % 2
    by_chance = logits[:1] * np.where(np.arange(30) // 2 % 2, 1, -1)[:, None]
    with pytest.raises(UserError, match="30 rows tell no temperature: the answers to them are no better than chance"):
        decide(RunConfig(calibrate=True), by_chance, labels, ("a", "b"), SINGLE_LABEL, needed=True)


@pytest.mark.parametrize(
    ("settings", "names", "problem", "told"),
    [
        ({"choose_by": "f1_macros"}, ("a", "b"), SINGLE_LABEL, "did you mean f1_macro"),
        ({"choose_by": "f1:c"}, ("a", "b"), SINGLE_LABEL, "the labels are a, b"),
        ({"choose_by": "accuracy"}, ("a", "b"), MULTI_LABEL, "has exact_match, f1_micro"),
        ({"choose_by": "f1:y"}, ("y",), REGRESSION, "has mse, mae, spearman, r2, loss"),
        ({"calibrate": True}, ("y",), REGRESSION, "no probabilities"),
        ({"choose_threshold": "f1"}, ("a", "b", "c"), SINGLE_LABEL, "only for two classes"),
    ],
)
def test_what_a_task_does_not_have_is_refused(settings: Any, names: Any, problem: Any, told: str) -> None:
    with pytest.raises(UserError, match=told):
        check_choices(RunConfig(**settings), names, problem)


def test_thresholds_of_other_labels_are_refused(chosen: tuple[records.Run, records.Run], tmp_path: Path) -> None:
    import shutil

    place = shutil.copytree(chosen[0].directory / "checkpoint", tmp_path / "edited")
    settings = json.loads((place / "config.json").read_text())
    settings["longread_decision"]["thresholds"] = {"eggs": 0.4}
    (place / "config.json").write_text(json.dumps(settings))
    (place / "longread_checksums.json").unlink()
    with pytest.raises(UserError, match="thresholds of eggs; the labels are ham, spam"):
        longread.load(place)
