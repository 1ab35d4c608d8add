"""A comparison within a time: what is chosen, what is said, and that the time is held. No second of it is real."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from longread import records
from longread.cli import main as cli
from longread.config import RunConfig
from longread.errors import UserError
from longread.problems import REGRESSION, SINGLE_LABEL
from longread.records import RunRecord, write_record
from longread.study.budgeted import compare_within
from longread.study.child import TIME_IS_UP, run_one
from longread.study.compare import grid
from longread.study.plan import Cost, Plan, Texts, report_seconds, seconds_of
from longread.study.planner import make_plan
from longread.study.probe import Probe

MECHANISMS = ["dense", "longformer", "performer"]
PER_TOKEN = {"dense": 3e-5, "longformer": 2e-5, "performer": 1e-5}


class Clock:
    """Stands still but where it is moved."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class Measured:
    """Costs by a formula, each measurement a second of the clock; short texts make Longformer full attention."""

    def __init__(self, clock: Clock, rows: int, length: int, problem: Any = SINGLE_LABEL) -> None:
        self.clock, self.rows, self.length, self.problem = clock, rows, length, problem
        self.asked: list[RunConfig] = []
        self.slower = 1.0

    def forget(self, pace: float) -> None:
        self.slower = 1.0

    def texts(self) -> Texts:
        return Texts(self.rows, np.full(50, self.length), self.problem)

    def __call__(self, config: RunConfig) -> Cost:
        self.clock.now += 1
        self.asked.append(config)
        if config.is_baseline:
            return Cost(2.0 * self.slower)
        tokens = self.rows * min(self.length, config.max_length or 0)
        each = PER_TOKEN[config.attention] * tokens * config.num_hidden_layers * config.hidden_size / 64
        return Cost(
            5.0 * self.slower, each, each / 10, config.attention == "longformer" and (config.max_length or 0) <= 256
        )


def plan_of(seconds: float, rows: int = 300, length: int = 900, problem: Any = SINGLE_LABEL, **given: Any) -> Plan:
    clock = Clock()
    measured = Measured(clock, rows, length, problem)
    configs = grid(RunConfig(**given), tasks=["own.csv"], attentions=MECHANISMS, depths=[1], seeds=[0])
    plan = make_plan(configs, measured.texts(), measured, seconds, clock=clock)
    assert not plan.entries or plan.seconds + clock.now - 100 <= seconds - report_seconds(seconds)
    return plan


def names(plan: Plan) -> list[str]:
    return [entry.config.attention for entry in plan.entries]


@pytest.mark.parametrize("seconds", [5, 20, 40, 90, 300, 1200, 20_000])
@pytest.mark.parametrize(("rows", "length"), [(100, 60), (300, 900), (20_000, 5_000)])
def test_a_plan_fits_linear_models_first_and_all_of_a_round_alike(seconds: float, rows: int, length: int) -> None:
    plan = plan_of(seconds, rows, length)
    found = names(plan)
    linear = [name for name in found if name in ("majority", "tfidf", "nbsvm")]
    assert found[: len(linear)] == linear
    first = [e.config for e in plan.entries if not e.config.is_baseline and e.config.seed == 0][:2]
    assert len({(c.max_length, c.epochs, c.hidden_size) for c in first}) <= 1 or len({c.attention for c in first}) == 1
    assert all(why for _, why in plan.left_out)
    assert plan.left_out or seconds == 20_000


def test_more_time_is_more_models_and_longer_texts() -> None:
    plans = [plan_of(seconds) for seconds in (30, 90, 300, 30_000)]
    counts = [len(plan.entries) for plan in plans]
    assert counts == sorted(counts) and counts[0] < counts[-1]
    last = [e.config for e in plans[-1].entries if not e.config.is_baseline]
    assert {c.seed for c in last} == {0, 1, 2}
    assert {c.hidden_size for c in last} == {64, 128, 256}
    assert {c.max_length for c in last} == {1024, 256}
    assert max(c.epochs or 0 for c in last) == 40  # few rows: more passes


def test_what_is_given_is_not_chosen() -> None:
    for config in (e.config for e in plan_of(3000, max_length=200, epochs=4, hidden_size=32).entries):
        assert config.is_baseline or (config.max_length, config.epochs, config.hidden_size) == (200, 4, 32)
    assert "longformer" not in names(plan_of(3000, max_length=200))  # full attention, as dense is
    assert ("nbsvm", "predicts classes, not numbers") in plan_of(300, problem=REGRESSION).left_out


def test_nothing_is_measured_for_ever() -> None:
    clock = Clock()
    measured = Measured(clock, 300, 900)
    configs = grid(RunConfig(), tasks=["own.csv"], attentions=MECHANISMS, depths=[1], seeds=[0])
    make_plan(configs, measured.texts(), measured, 20.0, clock=clock)
    assert len({config.attention for config in measured.asked if not config.is_baseline}) < len(MECHANISMS)


@pytest.mark.parametrize("text", ["", "20", "m", "0m", "1.5h", "-3m", "20 m", "3m2h"])
def test_a_time_needs_its_unit(text: str) -> None:
    with pytest.raises(UserError, match="--budget"):
        seconds_of(text)
    assert [seconds_of(good) for good in ("90s", "20m", "2h", "1h30m5s")] == [90, 1200, 7200, 5405]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--budget 20", "--budget 20: give a time with its unit"),
        ("--budget 2m --lengths 64", "--lengths: not with --budget"),
        ("--budget 2m --task reviews listops", "--budget: for one --task, not 2"),
    ],
)
def test_what_does_not_go_with_a_time_is_refused(
    options: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["compare", *options.split(), "--out", str(tmp_path)]) == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.fixture
def letters(tmp_path: Path) -> RunConfig:
    words = {"late": "parcel late depot", "bill": "invoice refund twice", "broken": "cracked screen noise"}
    rows = [f"dear all {words[kind]} {number},{kind}" for number in range(20) for kind in words]
    (tmp_path / "letters.csv").write_text("\n".join(["text,label", *rows]))
    return RunConfig(
        task=str(tmp_path / "letters.csv"), out=tmp_path / "out", hidden_size=16, num_attention_heads=2,
        vocab_size=300, threads=1,
    )  # fmt: skip


class Runs:
    """Stands for the processes: each takes so many seconds of the clock, and is stopped at its limit."""

    def __init__(self, clock: Clock, seconds: float, stop_at: int = 99) -> None:
        self.clock, self.seconds, self.stop_at = clock, seconds, stop_at
        self.limits: list[float] = []

    def __call__(self, index: int, config: RunConfig, on_event: Any, *, time_limit: float) -> records.Run:
        if len(self.limits) == self.stop_at:
            raise KeyboardInterrupt
        self.limits.append(time_limit)
        self.clock.now += min(self.seconds, time_limit)
        late = self.seconds > time_limit
        name = records.fingerprint(json.dumps(config.to_json()))
        record = RunRecord(
            run_id=name, kind="train", status="interrupted" if late else "ok", error=TIME_IS_UP if late else None,
            task=config.task, attention=config.attention, init="scratch", config=config.named(), seed=config.seed,
        )  # fmt: skip
        on_event(index, {"event": "end", "run_id": name, "status": record.status, "error": record.error})
        return write_record(config.out, record)


def test_a_stopped_plan_goes_on_with_what_is_left_of_its_time(letters: RunConfig) -> None:
    clock, plans = Clock(), []

    def again(runs: Runs) -> Any:
        return compare_within(
            letters, 120.0, attentions=MECHANISMS, clock=clock, run=runs,
            probe=lambda base: _on_real_rows(Measured(clock, 54, 40), base),
            on_plan=lambda kept, old: plans.append((old, [e.config.named() for e in kept.plan.entries], kept.left)),
        )  # fmt: skip

    with pytest.raises(KeyboardInterrupt):
        again(Runs(clock, 3.0, stop_at=2))
    clock.now += 10_000  # between the two, no time is used
    rest = Runs(clock, 3.0)
    done = again(rest)
    (old_first, first, left_first), (old_second, second, left_second) = plans
    assert (old_first, old_second) == (False, True)
    assert first == second
    assert left_second == pytest.approx(left_first - 6, abs=0.2)
    assert len(rest.limits) == len(first) - 2  # what was finished is not run again
    assert all(run.record["status"] == "ok" for run in done.runs)
    assert len(done.runs) == len(first)
    assert json.loads(done.kept.path.read_text())["entries"][0]["state"] == "done"
    other = compare_within(
        replace(letters, out=letters.out), 121.0, attentions=MECHANISMS, clock=clock, run=Runs(clock, 3.0),
        probe=lambda base: _on_real_rows(Measured(clock, 54, 40), base),
    )  # fmt: skip
    assert other.kept.path != done.kept.path


def _on_real_rows(measured: Measured, base: RunConfig) -> Any:
    from longread.data.load import load_task

    measured.train, measured.evaluation = load_task(base.data_config())  # type: ignore[attr-defined]
    return measured


def test_the_time_is_held_when_runs_take_longer_than_expected(letters: RunConfig) -> None:
    clock = Clock()
    events: list[tuple[int, str]] = []
    done = compare_within(
        letters, 120.0, attentions=MECHANISMS, clock=clock, run=Runs(clock, 30.0),
        probe=lambda base: _on_real_rows(Measured(clock, 54, 40), base),
        on_event=lambda index, event: events.append((index, event["event"])),
    )  # fmt: skip
    assert clock.now - 100 <= 120 - report_seconds(120)
    states = [state["state"] for state in done.kept.states]
    assert "not begun" in states
    assert "left_out" in {kind for _, kind in events}
    assert any("left" in why for _, why in done.kept.plan.left_out)


def test_time_that_is_left_over_is_used(letters: RunConfig) -> None:
    clock = Clock()
    letters = replace(letters, hidden_size=64)
    events: list[str] = []
    done = compare_within(
        letters, 150.0, attentions=MECHANISMS, clock=clock, run=Runs(clock, 2.0),
        probe=lambda base: _on_real_rows(Measured(clock, 300, 900), base),
        on_event=lambda index, event: events.append(event["event"]),
    )  # fmt: skip
    assert "added" in events
    assert len(done.runs) == len(done.kept.states) == events.count("added") + events.index("added")
    again = compare_within(
        letters, 150.0, attentions=MECHANISMS, clock=clock, run=Runs(clock, 2.0, stop_at=0),
        probe=lambda base: _on_real_rows(Measured(clock, 300, 900), base),
    )  # fmt: skip
    assert [run.record["run_id"] for run in again.runs] == [run.record["run_id"] for run in done.runs]


def test_transformers_are_planned_again_where_linear_models_took_less_than_measured(letters: RunConfig) -> None:
    """All was measured while the machine was busy: only linear models seemed to fit."""
    clock = Clock()
    measured = Measured(clock, 54, 40)
    measured.slower = 30.0
    events: list[str] = []
    done = compare_within(
        letters, 120.0, attentions=MECHANISMS, clock=clock, run=Runs(clock, 3.0),
        probe=lambda base: _on_real_rows(measured, base),
        on_plan=lambda kept, old: events.append(",".join(e.config.attention for e in kept.plan.entries)),
        on_event=lambda index, event: events.append(event["event"]),
    )  # fmt: skip
    assert events[0] == "majority"
    assert {"dense", "performer"} <= {run.record["attention"] for run in done.runs}
    assert [e["state"] for e in json.loads(done.kept.path.read_text())["entries"]] == ["done"] * len(done.runs)
    assert clock.now - 100 <= 120 - report_seconds(120)


def test_a_broken_plan_is_named(letters: RunConfig) -> None:
    clock = Clock()
    arguments: dict[str, Any] = {
        "attentions": ["dense"], "clock": clock, "run": Runs(clock, 1.0),
        "probe": lambda base: _on_real_rows(Measured(clock, 54, 40), base),
    }  # fmt: skip
    done = compare_within(letters, 60.0, **arguments)
    done.kept.path.write_text("{}")
    with pytest.raises(UserError, match="not a plan"):
        compare_within(letters, 60.0, **arguments)


def test_real_rows_are_measured(letters: RunConfig) -> None:
    """The probe itself, small: every cost is a number of seconds above 0, and evaluation rows do not change it."""
    probe = Probe(replace(letters, eval_rows=3))
    probe.__dict__["start_seconds"] = 1.0
    texts = probe.texts()
    assert texts.rows == 54 and len(texts.lengths) == 54
    for config in (replace(letters, attention="tfidf"), replace(letters, max_length=128)):
        cost = probe(config)
        assert cost.begin > 1
        assert config.is_baseline or (cost.epoch > 0 and cost.evaluation > 0 and cost.dense)
    measured = dict(probe.per_token)
    probe(replace(letters, max_length=64))
    assert probe.per_token == measured  # a shorter length is not measured again


@pytest.mark.slow
def test_a_run_is_stopped_at_its_limit_with_its_state(letters: RunConfig) -> None:
    config = replace(letters, epochs=100_000, max_length=64)
    run = run_one(0, config, lambda index, event: None, time_limit=20.0)
    assert run.record["status"] == "interrupted"
    assert run.record["error"] == f"{TIME_IS_UP}; its state is kept"
    assert list(run.directory.glob("state-*.safetensors"))
