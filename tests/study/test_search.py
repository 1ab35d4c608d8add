"""A search for settings: what may be tried, which trials are stopped, and a whole one, stopped and gone on with."""

from __future__ import annotations

import importlib.util
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_train import small

from longread.cli import main as cli
from longread.config import RunConfig
from longread.data.load import load_task
from longread.errors import UserError
from longread.report.search import read_search, verdict
from longread.study.sampling import Asha, RandomSampler
from longread.study.search import SearchConfig, Trials, search
from longread.study.space import Choice, Range, check_space, default_space, read_space, step_of


def test_a_space_is_read_from_words() -> None:
    space = read_space(
        ["learning-rate=1e-4..1e-2", "epochs=2..4", "attention=dense,longformer", "attention_window=16,32"]
    )
    assert space == {
        "learning_rate": Range(1e-4, 1e-2, whole=False),
        "epochs": Range(2, 4, whole=True),
        "attention": Choice(("dense", "longformer")),
        "attention_window": Choice((16, 32)),
    }
    sampler = RandomSampler(space, seed=0)
    drawn = [sampler.ask(number) for number in range(200)]
    assert drawn == [RandomSampler(space, seed=0).ask(number) for number in range(200)]
    assert {d["epochs"] for d in drawn} == {2, 3, 4}
    rates = np.log10([d["learning_rate"] for d in drawn])
    assert -4 <= rates.min() < -3.9
    assert -2.1 < rates.max() <= -2
    assert abs(rates.mean() + 3) < 0.1


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("learning_rat=1..2", "did you mean learning_rate?"),
        ("epochs", "give NAME=LOW..HIGH"),
        ("epochs=5..2", "a range is LOW..HIGH, and 5 is larger than 2"),
        ("learning_rate=0..0.5", "for fractions above 0"),
        ("eval_rows=1,2", "is no setting to search over"),
        ("epochs=two,three", "epochs is 'two'"),
        ("distill_steps=10,20", "give --init"),
    ],
)
def test_what_cannot_be_searched_is_refused(word: str, why: str) -> None:
    with pytest.raises(UserError, match=re.escape(why)):
        check_space(RunConfig(), read_space([word]))


def test_a_trial_may_begin_with_a_distillation() -> None:
    base = RunConfig(init="somewhere", task="imdb", learning_rate=1e-4, tuning_fraction=0.2)
    step = step_of(base, {"attention": "performer", "distill_steps": 100, "epochs": 2})
    assert step.init is not None
    assert (step.init.distill_steps, step.init.config.init, step.config.init) == (100, "somewhere", "scratch")
    assert (step.init.config.tuning_fraction, step.init.config.learning_rate) == (0.2, None)
    assert step_of(base, {"attention": "dense", "distill_steps": 100}).init is None
    assert default_space(base)["epochs"] == Choice((1, 3, 6))


def test_the_rule_lets_the_best_third_go_on() -> None:
    rule, draw = Asha(factor=3), np.random.default_rng(0)
    scores = draw.permutation(300) / 300
    went_on = [rule.goes_on(1, score) for score in scores]
    assert went_on[0]
    assert 80 < sum(went_on) < 140
    assert np.mean(scores[went_on]) > np.mean(scores) + 0.2
    assert rule.goes_on(2, -1.0)
    assert rule.goes_on(3, 0.5)
    assert not rule.goes_on(3, 0.4)
    assert rule.goes_on(3, 0.6)


def test_tuning_rows_are_of_train_and_evaluation_rows_are_not_read(tmp_path: Path) -> None:
    lines = [f"text {number},{number % 2}" for number in range(40)]
    (tmp_path / "train.csv").write_text("\n".join(["text,label", *lines]))
    (tmp_path / "test.csv").write_text("this is no table")
    config = RunConfig(task=str(tmp_path), train_rows=30, tuning_fraction=0.2)
    train, tuning = load_task(config.data_config())
    assert (len(train), len(tuning), tuning.split) == (24, 6, "tuning")
    assert not set(train.texts) & set(tuning.texts)
    with pytest.raises(UserError):
        load_task(replace(config, tuning_fraction=None).data_config())


@pytest.mark.slow
def test_a_search_goes_on_where_it_was_stopped_and_ends_with_a_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = replace(small(tmp_path, train_rows=64, eval_rows=16, epochs=2), threads=1)
    space = read_space(["learning_rate=1e-4..1e-2"])
    config = SearchConfig(base=base, space=space, trials=2)
    events: list[tuple[int, str]] = []

    def stop(number: int, event: dict[str, Any]) -> None:
        events.append((number, event["event"]))
        if events[-1] == (0, "epoch"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(config, stop)
    (trial,) = Trials(config).found
    assert trial.status == "running"
    found = search(config, lambda number, event: events.append((number, event["event"])))
    assert (0, "resumed") in events
    assert found.found[0].status == "ok"
    assert len(found.found[0].scores) == 2
    assert found.found[0].settings == {}
    assert json.loads((tmp_path / "search" / "trials.json").read_text())["trials"][1]["number"] == 1
    with pytest.raises(UserError, match="give another --out"):
        Trials(replace(config, space=read_space(["learning_rate=1e-3..1e-2"])))
    assert verdict(tmp_path) == "The search has not come to its end."
    assert search(config).found == found.found


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("on", ["here", "ray"])
def test_the_command_searches_and_compares(tmp_path: Path, on: str, capsys: pytest.CaptureFixture[str]) -> None:
    if on == "ray" and importlib.util.find_spec("ray") is None:
        pytest.skip("the extra `tune` is not installed")
    more = ["--on", "ray", "--address", "local", "--run-memory", "0.5"] if on == "ray" else []
    command = ["tune", "--train-rows", "64", "--eval-rows", "32", "--epochs", "1", "--hidden-size", "16"]
    command += ["--threads", "1", "--num-attention-heads", "2", "--vocab-size", "300", "--max-length", "96"]
    command += ["--seed", "0", "1", "--trials", "4", "--search", "learning_rate=1e-4..1e-2", "epochs=1,2"]
    command += ["--out", str(tmp_path), *more]
    assert cli.main(command) == 0
    found = read_search(tmp_path)
    assert found is not None
    assert len(found["trials"]) == 4
    assert "Search for settings" in (tmp_path / "report.md").read_text()
    assert verdict(tmp_path) in capsys.readouterr().err
