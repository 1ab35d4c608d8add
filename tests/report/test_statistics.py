"""The arithmetic that the report's claims rest on, against scipy, hand calculation and simulation."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from longread.records import load_runs
from longread.report import statistics
from longread.report.grouping import group_runs
from longread.report.groups import Group
from longread.report.lineage import all_ancestors, draws
from longread.report.pairs import compare_lines
from report_records import record, write_run

# --- intervals and tests


def test_an_interval_of_one_draw_is_wilsons() -> None:
    _, one = statistics.mean_interval([0.8], 250)
    exact = stats.binomtest(200, 250).proportion_ci(method="wilson")
    assert (one.low, one.high, one.over) == (pytest.approx(exact.low), pytest.approx(exact.high), "rows")
    assert statistics.wilson(1.0, 10).low == pytest.approx(0.72247, abs=1e-5)  # 10 / (10 + 1.96²)
    _, shared = statistics.mean_interval([0.79, 0.80, 0.81], 250, [0, 0, 0])
    assert (shared.low, shared.high, shared.draws) == (pytest.approx(exact.low), pytest.approx(exact.high), 1)


def test_an_interval_holds_rows_and_draws() -> None:
    mean, interval = statistics.mean_interval([0.8, 0.9, 0.85], 1000)
    assert mean == pytest.approx(0.85)
    # by hand: s = .05, t(.975, 2) = 4.30265, half = 4.30265 * .05 / sqrt(3) = .12421; Wilson: .82652 to .87083
    assert interval.low == pytest.approx(0.85 - math.hypot(0.12421, 0.85 - 0.82652), abs=2e-5)
    assert interval.high == pytest.approx(0.85 + math.hypot(0.12421, 0.87083 - 0.85), abs=2e-5)
    assert interval.over == "rows and 3 draws"


def test_runs_of_one_draw_are_no_independent_values() -> None:
    values = [0.80, 0.82, 0.90, 0.92]
    assert statistics.standard_error(values, [0, 1, 2, 3]) == pytest.approx(np.std(values, ddof=1) / 2)
    assert statistics.standard_error(values, [0, 0, 1, 1]) == pytest.approx(np.std([0.81, 0.91], ddof=1) / math.sqrt(2))
    assert statistics.standard_error(values, [0, 0, 0, 0]) == 0


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Accuracies with chance in rows and in draws: 95 % of the intervals cover; Student's over the seeds alone do not.

    A row is hard for all runs alike (`hard`), a draw is good or bad on all rows alike (`skill`).
    """
    rng = np.random.default_rng(5)
    covered = seeds_alone = 0
    for _ in range(400):
        hard, skill = rng.normal(size=(1, 300)), 0.1 * rng.normal(size=(3, 1))
        correct = hard + skill + 0.3 * rng.normal(size=(3, 300)) < 1.0
        truth = stats.norm.cdf(1.0 / math.sqrt(1 + 0.1**2 + 0.3**2))
        values = correct.mean(axis=1).tolist()
        mean, interval = statistics.mean_interval(values, 300)
        covered += interval.low <= truth <= interval.high
        half = statistics.student(3) * float(stats.sem(values))
        seeds_alone += abs(mean - truth) <= half
    assert 0.94 * 400 <= covered <= 400
    assert seeds_alone < 0.9 * 400


def test_mcnemar_holm_and_pooling() -> None:
    first = np.array([True] * 12 + [False] * 3 + [True] * 50)
    second = np.array([False] * 12 + [True] * 3 + [True] * 50)
    assert statistics.mcnemar(first, second) == pytest.approx(2 * sum(math.comb(15, k) for k in range(4)) / 2**15)
    assert statistics.mcnemar(first, first) == 1
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert statistics.pooled_p([0.2]) == 0.2
    assert statistics.pooled_p([0.01, 0.03, 0.9]) == pytest.approx(0.045)  # the second of three, times 3/2
    assert statistics.pooled_p([0.02, 0.04]) == pytest.approx(0.04)


def test_a_pooled_p_is_not_small_too_often() -> None:
    """Under no difference at all, at most 5 % of comparisons may come out below .05; a seed the other way counts."""
    rng = np.random.default_rng(0)
    small = 0
    for _ in range(200):
        a, b = rng.random((2, 3, 80)) < 0.7
        small += statistics.compare(a, b, [0, 1, 2]).p < 0.05
    assert small <= 10
    result = statistics.compare(
        np.array([[True] * 30, [False] * 10 + [True] * 20]), np.array([[False] * 10 + [True] * 20, [True] * 30]), [0, 1]
    )
    assert result.p == 1
    assert not result.significant(0.001)


def test_the_interval_of_a_difference_holds_rows_and_draws() -> None:
    a = np.array([[True] * 80 + [False] * 20, [True] * 84 + [False] * 16])
    b = np.array([[True] * 70 + [False] * 30, [True] * 70 + [False] * 30])
    result = statistics.compare(a, b, [0, 1])
    over_rows = 1.959964 * (a.astype(float) - b).mean(0).std(ddof=1) / 10
    over_seeds = 12.7062 * np.std([0.10, 0.14], ddof=1) / math.sqrt(2)
    assert result.difference == pytest.approx(0.12)
    assert result.high - result.difference == pytest.approx(math.hypot(over_rows, over_seeds), rel=1e-4)
    together = statistics.compare(a, b, [0, 0])
    assert (together.high - together.difference, together.draws) == (pytest.approx(over_rows, rel=1e-4), 1)


def test_within_a_margin_needs_the_bound_and_not_the_estimate() -> None:
    second = np.array([[True] * 900 + [False] * 100])
    first = np.array([[True] * 890 + [False] * 110])  # a point behind, on the same rows otherwise
    result = statistics.non_inferiority(first, second, 0.02)
    spread = (first.astype(float) - second).std(ddof=1) / math.sqrt(1000)
    assert result.difference == pytest.approx(-0.01)
    assert result.lower == pytest.approx(-0.01 - stats.norm.ppf(0.95) * spread)
    assert result.shown
    assert not statistics.non_inferiority(first, second, 0.012).shown
    assert statistics.non_inferiority(second, first, -0.004).shown  # a lead of at least .4 points
    assert not statistics.non_inferiority(second, first, -0.008).shown
    two = np.concatenate([first, second])
    apart = statistics.non_inferiority(two, np.concatenate([second, second]), 0.02)
    assert (apart.draws, apart.shown) == (2, False)  # two draws, .5 points behind, but far from each other
    assert statistics.non_inferiority(two, np.concatenate([second, second]), 0.02, [0, 0]).shown


def test_pareto_and_crossover() -> None:
    assert statistics.pareto([3, 1, 2, 1], [9, 5, 4, 6]) == [3, 0]
    lengths = [128, 256, 512, 1024]
    found = statistics.crossover(lengths, [8, 8, 8, 8], [2, 4, 16, 64])
    assert found is not None
    assert found.length == pytest.approx(256 * math.sqrt(2))
    touching = statistics.crossover(lengths, [1, 9, 1, 1], [2, 4, 16, 64])  # a dip before does not count
    assert touching is not None
    assert touching.below == 256
    assert statistics.crossover([128], [0.97], [1.0]) == statistics.Crossing(None, 128, None, 128)  # noise
    never = statistics.crossover(lengths, [9, 9, 9, 99], [2, 4, 16, 64])
    assert never is not None
    assert (never.length, never.longest) == (None, 1024)


# --- lineage


def names(run: dict[str, Any]) -> set[str]:
    return set(all_ancestors(run, {}))


def test_an_ancestor_is_a_trained_run_or_a_folder_of_ones_own() -> None:
    teacher, distilled = {"run_id": "t", "seconds": 60.0}, {"run_id": "d", "seconds": 30.0}
    by_role = {"teacher": teacher, "distillation": distilled, "init": distilled}
    as_list = [{"role": role} | entry for role, entry in by_role.items()]
    for lineage in (by_role, as_list):
        assert all_ancestors({"lineage": lineage, "init": "out/d"}, {}) == {"run t": 60.0, "run d": 30.0}
    assert names({"init": "scratch"}) == set()
    assert names({"init": "package:some_models/model"}) == names({"init": "google/bigbird-roberta-base"}) == set()
    assert names({"init": "out/some-checkpoint"}) == {"weights out/some-checkpoint"}
    old = {"init": "out/p", "lineage": [{"role": "distillation", "run_id": None, "seconds": 9.0}]}
    elsewhere = old | {"init": "copies/p"}
    assert all_ancestors(elsewhere, {}) == {"weights copies/p": None, "distillation copies/p": 9.0}
    assert all_ancestors(old, {}) == {"weights out/p": None, "distillation out/p": 9.0}


def test_draws_are_what_shares_nothing() -> None:
    assert draws([{"a"}, {"b"}, {"c"}]) == [0, 1, 2]
    assert draws([{"a", "t"}, {"b"}, {"c", "t"}]) == [0, 1, 0]
    assert draws([{"a", "x"}, {"b", "y"}, {"c", "x", "y"}]) == [0, 0, 0]
    assert draws([]) == []


def three_seeds(out: Path, attention: str, accuracy: float, **of_seed: Any) -> None:
    for seed in range(3):
        changes = {name: value[seed] if isinstance(value, list) else value for name, value in of_seed.items()}
        write_run(out, record("reviews", attention, seed, 400, **changes), accuracy)


def group_of(out: Path) -> Group:
    (group,) = group_runs(load_runs(out))
    return group


def ancestor(name: str) -> dict[str, Any]:
    return {"teacher": {"run_id": name, "seconds": 60.0}}


@pytest.mark.parametrize(
    ("behind", "count"),
    [
        ({}, 3),
        ({"init": "out/a-checkpoint"}, 1),
        ({"lineage": ancestor("one")}, 1),
        ({"lineage": [ancestor(name) for name in ("one", "two", "three")]}, 3),
        ({"lineage": [ancestor(name) for name in ("one", "two", "one")]}, 2),
    ],
    ids=["scratch", "checkpoint", "one teacher", "three teachers", "two teachers"],
)
def test_runs_behind_one_teacher_are_one_draw(behind: dict[str, Any], count: int, tmp_path: Path) -> None:
    three_seeds(tmp_path, "dense", 0.9)
    three_seeds(tmp_path, "linformer", 0.7, **behind)
    group = group_of(tmp_path)
    line = group.lines[1]
    assert len(set(line.draws)) == line.accuracy[1].draws == count
    tested = compare_lines([group])[0].tested
    assert [(pair.result.draws, pair.significant) for pair in tested] == [(count, count == 3)]


def test_a_run_and_its_teacher_are_no_two_draws(tmp_path: Path) -> None:
    three_seeds(tmp_path, "dense", 0.9)
    teachers = [run.record["run_id"] for run in load_runs(tmp_path)]
    three_seeds(tmp_path, "linformer", 0.7, lineage=[ancestor(name) for name in teachers])
    assert [pair.result.draws for pair in compare_lines([group_of(tmp_path)])[0].tested] == [3]
    three_seeds(tmp_path, "performer", 0.7, lineage=[ancestor(name) for name in [*teachers[1:], teachers[0]]])
    by_name = {
        (p.first.attention, p.second.attention): p.result.draws for p in compare_lines([group_of(tmp_path)])[0].tested
    }
    assert by_name["dense", "performer"] == 1  # each pair holds the teacher of the next


def test_chains_that_differ_in_their_seeds_alone_are_one_line(tmp_path: Path) -> None:
    three_seeds(tmp_path, "dense", 0.9)
    three_seeds(tmp_path, "dense", 0.9, config={"epochs": 2})
    trained = sorted(load_runs(tmp_path), key=lambda run: (-run.record["config"]["epochs"], run.record["seed"]))
    teachers = [run.record["run_id"] for run in trained]

    def behind(names: list[str]) -> dict[str, Any]:
        return {"init": [f"runs/{name}/checkpoint" for name in names], "lineage": [ancestor(name) for name in names]}

    three_seeds(tmp_path, "longformer", 0.8, **behind(teachers[:3]))
    longformer = [line for line in group_of(tmp_path).lines if line.attention == "longformer"]
    assert [line.accuracy[1].draws for line in longformer if line.accuracy] == [3]
    # of teachers that were trained otherwise: a line of its own
    three_seeds(tmp_path, "bigbird", 0.8, **behind([*teachers[:2], teachers[3]]))
    bigbird = [line for line in group_of(tmp_path).lines if line.attention == "bigbird"]
    assert sorted(len(line.outcomes) for line in bigbird) == [1, 2]


def test_runs_that_claim_to_begin_from_each_other_are_shown(tmp_path: Path) -> None:
    one, two = (record("reviews", "dense", seed, 400) for seed in range(2))
    write_run(tmp_path, one | {"init": f"runs/{two['run_id']}/checkpoint"}, 0.9)
    write_run(tmp_path, two | {"init": f"runs/{one['run_id']}/checkpoint"}, 0.9)
    write_run(tmp_path, record("reviews", "dense", 2, 400) | {"init": f"runs/{one['run_id']}/checkpoint"}, 0.9)
    assert sum(len(line.outcomes) for line in group_of(tmp_path).lines) == 3


def test_holm_counts_every_comparison_of_the_report(tmp_path: Path) -> None:
    three_seeds(tmp_path, "dense", 0.9)
    three_seeds(tmp_path, "linformer", 0.8)
    alone = compare_lines([group_of(tmp_path)])[0].tested[0].corrected
    for seed in range(3):
        for attention in ("dense", "linformer"):
            write_run(tmp_path, record("imdb", attention, seed, 400), 0.85)
    groups = group_runs(load_runs(tmp_path))
    corrected = {
        group.task: pairs.tested[0].corrected for group, pairs in zip(groups, compare_lines(groups), strict=True)
    }
    assert corrected["reviews"] == pytest.approx(2 * alone)


def test_one_run_stands_beside_all_of_the_others_and_makes_them_one_draw(tmp_path: Path) -> None:
    write_run(tmp_path, record("reviews", "dense", 0, 400), 0.9)
    three_seeds(tmp_path, "linformer", 0.7)
    (pair,) = compare_lines([group_of(tmp_path)])[0].tested
    assert (len(pair.result.per_seed), pair.result.draws) == (3, 1)
    means = [line.accuracy[0] for line in group_of(tmp_path).done]
    assert pair.result.difference == pytest.approx(means[0] - means[1])
