"""Studies run from nothing to their tables, and every kept record is a run that a study asks for."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tomllib
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from longread.cli.live import GridView
from longread.config import RunConfig
from longread.errors import UserError
from longread.inference.predictor import load
from longread.records import load_runs
from longread.report.goals import read_goals
from longread.study.chain import Step, in_order
from longread.training.run import train

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from experiments import explain_faithfulness, imdb_lengths_times  # noqa: E402
from experiments import run as runner  # noqa: E402
from experiments.recipes import distilled, tuned  # noqa: E402
from experiments.recorded import asks_for  # noqa: E402

STUDIES = runner.studies()
SUPERSEDED = tomllib.loads((ROOT / "experiments" / "superseded.toml").read_text("utf-8"))["superseded"]
KEPT = {path.parent.name: path.parent for path in sorted((ROOT / "results").glob("*/runs.jsonl"))}
KEPT = {
    name: path
    for name, path in KEPT.items()
    if name != "benchmarks" and any(run.record["kind"] != "benchmark" for run in load_runs(path))
}


def miniature() -> list[Step]:
    """A teacher, a distillation and two fine-tunings behind it."""
    base = RunConfig(
        train_rows=32, eval_rows=16, epochs=1, batch_size=8, hidden_size=16, num_attention_heads=2, vocab_size=300,
        max_length=96, attention_dropout=0.0, threads=1,
    )  # fmt: skip
    teacher = Step(base)
    student = distilled(teacher, "linformer", 300, batch_size=8, train_rows=32, projection_size=4)
    fine = RunConfig(train_rows=32, eval_rows=16, epochs=1, attention="linformer", threads=1, projection_size=4)
    return tuned(student, fine, seeds=(0, 1))


def test_a_study_goes_on_where_it_was_stopped_and_is_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, kept = tmp_path / "out", tmp_path / "kept"
    events: list[tuple[int, str]] = []
    stop = True

    def listen(view: GridView, index: int, event: dict[str, Any]) -> None:
        events.append((index, event["event"]))
        if stop and (index, event["event"]) == (1, "progress"):
            os.kill(os.getpid(), signal.SIGINT)

    def run() -> list[Any]:
        steps = runner.placed(miniature(), out=out)
        return [run.record for run in runner.run_study(steps, out, kept)]

    monkeypatch.setattr(GridView, "on_event", listen)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background commands ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            run()
    finally:
        signal.signal(signal.SIGINT, before)
    assert not kept.exists()
    stop = False
    events.clear()
    records = run()
    assert [record["kind"] for record in records] == ["train", "distill", "train", "train"]
    assert {record["status"] for record in records} == {"ok"}
    assert (0, "skipped") in events and (1, "resumed") in events
    assert [[ancestor["run_id"] for ancestor in record["lineage"]] for record in records[2:]] == [
        [records[1]["run_id"], records[0]["run_id"]]
    ] * 2
    assert len(load_runs(kept)) == 4 and "linformer" in (kept / "report.md").read_text("utf-8").lower()
    shutil.rmtree(out)  # a fresh clone has the records alone
    events.clear()
    assert run() == records
    assert events == [] and not out.exists()


def test_every_kept_study_belongs_to_one_question() -> None:
    owners = Counter(folder for module in STUDIES.values() for folder in module.RECORDS)
    owners.update(name.replace("_", "-") for name in STUDIES if name.replace("_", "-") not in owners)
    assert {folder: owners[folder] for folder in KEPT} == dict.fromkeys(KEPT, 1)
    assert {entry["study"] for entry in SUPERSEDED} <= set(KEPT)


@pytest.mark.parametrize("folder", KEPT)
def test_every_record_is_a_run_that_its_question_asks_for_or_is_superseded(folder: str) -> None:
    module = next(module for name, module in STUDIES.items() if folder in (*module.RECORDS, name.replace("_", "-")))
    steps = in_order(module.steps())
    listed = {name for entry in SUPERSEDED if entry["study"] == folder for name in entry["runs"]}
    found = {run.record["run_id"]: run.record for run in load_runs(KEPT[folder])}
    assert listed <= set(found), "superseded.toml names runs that are not there"
    for name, record in found.items():
        asked = any(asks_for(step, record) for step in steps)
        assert asked != (name in listed), f"{name}: {'asked for, and superseded' if asked else 'nothing asks for it'}"


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({}, True), ({"threads": 4}, True), ({"learning_rate": 1e-3}, False), ({"token_dropout": 0.1}, False),
        ({"attention_dropout": 0.1}, False), ({"new_weights_rate": 10.0}, False), ({"train_rows": 10}, False),
    ],
)  # fmt: skip
def test_a_record_with_another_setting_is_another_run(change: dict[str, Any], same: bool) -> None:
    step = next(step for step in STUDIES["pairs"].steps() if step.init is None and step.config.attention == "dense")
    (record,) = (run.record for run in load_runs(KEPT["qnli"]) if run.record["attention"] == "dense")
    assert asks_for(step, record | {"config": record["config"] | change}) == same
    assert not asks_for(step, record | {"seed": 1})


def test_a_distilled_model_is_told_by_its_distillation() -> None:
    steps = [step for step in STUDIES["pairs"].steps() if step.init and step.init.distill_steps]
    runs = {run.record["run_id"]: run.record for run in load_runs(KEPT["qnli-from-dense"])}
    record = runs["99fe2e506348e759"]  # Linformer after 1,832 updates
    (step,) = (step for step in steps if asks_for(step, record))
    assert step.init and step.init.distill_steps == 1832
    conversion = record["conversion"]
    for other in ({"steps": 199}, {"batch_size": 32}, {"learning_rate": 1e-3}):
        changed = conversion | {"distillation": conversion["distillation"] | other}
        assert not asks_for(step, record | {"conversion": changed})


@pytest.mark.parametrize("name", STUDIES)
def test_every_goal_of_a_study_is_about_a_run_of_it(name: str) -> None:
    asked = [step for step in STUDIES[name].steps() if step.distill_steps is None]
    for goal in read_goals(ROOT / "results" / "goals.toml", name.replace("_", "-")):
        for row in filter(None, (goal.selector, goal.other)):
            wanted = {"task": goal.task, "attention": row.attention} | dict(row.where)
            assert any(wanted.items() <= step.config.to_json().items() for step in asked), f"{row}: no such run"


def test_settings_are_chosen_on_rows_carved_from_train() -> None:
    assert {step.config.choose_epoch for step in STUDIES["settings"].steps()} == {"best"}


def test_an_earlier_studys_name_leads_to_its_question(capsys: pytest.CaptureFixture[str]) -> None:
    assert runner.main(["sst2_slower"]) == 2
    assert "sst2_slower is part of sentences now" in capsys.readouterr().err
    assert runner.main(["nowhere"]) == 2
    assert "there is no study 'nowhere'" in capsys.readouterr().err


def test_times_are_of_the_models_that_were_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imdb_lengths_times, "ROWS", RunConfig(eval_rows=8))
    config = RunConfig(
        train_rows=16, eval_rows=4, epochs=1, hidden_size=16, num_attention_heads=2, vocab_size=300, max_length=96,
        precision="float32", threads=1, out=tmp_path / "imdb_lengths_times",
    )  # fmt: skip
    with pytest.raises(UserError, match="no trained dense of 96 tokens; run imdb_lengths first"):
        imdb_lengths_times.run(config, lambda event: None)
    trained = train(replace(config, eval_rows=8, out=tmp_path / "imdb_lengths"))
    timed = imdb_lengths_times.run(config, lambda event: None)
    assert timed.record["init"] == "imdb-lengths"
    assert timed.record["num_parameters"] == trained.record["num_parameters"]
    assert timed.record["eval_seconds"] > 0 and timed.record["dataset"]["eval"]["rows"] == 4
    events: list[dict[str, Any]] = []
    assert imdb_lengths_times.run(config, events.append).record == timed.record and events[0]["event"] == "skipped"


def test_faithfulness_is_measured_on_the_answers_that_are_given(tmp_path: Path) -> None:
    config = RunConfig(
        train_rows=32, eval_rows=4, epochs=1, hidden_size=16, num_attention_heads=2, vocab_size=300, max_length=96,
        threads=1, out=tmp_path,
    )  # fmt: skip
    run = explain_faithfulness.run(config, lambda event: None)
    found = run.record["faithfulness"]
    predictor, text = load(run.directory), "a long, warm and funny film, and not a dull moment in it"
    (why,) = predictor.explain([text])
    every = np.arange(len(why.tokens))
    whole, without = explain_faithfulness.probability_without(predictor, why, text, [every[:0], every[:3]])
    assert whole == pytest.approx(why.probability, abs=1e-6) and without != pytest.approx(whole, abs=1e-6)
    predicted = run.predictions()
    assert predicted is not None
    given = dict(zip(predicted["row"].tolist(), predicted["probabilities"].max(axis=1).tolist(), strict=True))
    assert [given[row] for row in found["rows"]] == pytest.approx(found["probability"], abs=1e-5)
