"""Texts of a record never become markup or a path, and an odd record never takes the others with it."""

from __future__ import annotations

import copy
import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from longread.records import load_runs, write_json
from longread.report import build_report, summary_table
from report_records import attention_map, looked_at_closely, record, write_benchmarks, write_run

HOSTILE = (
    "\"><script>alert(1)</script><img src=x onerror=alert(1)>'",
    "</title></script><script>alert(1)</script>]]>&lt;script&gt;",
    "../../../escaped/$x^{$ \\1 \\g<0> {{ 7 * 7 }} `</code>`",
    "[click](javascript:alert(1))\n\n```\n<svg onload=alert(1)>\n\x1b[31m| a |",
)
KEPT = {"kind", "status", "created"}  # texts of a closed set, checked when a record is read


def texts(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where a record holds texts, the names of its dictionaries among them (path, then True)."""
    for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(inner, str):
            yield (*path, name)
        elif isinstance(inner, dict | list):
            if isinstance(inner, dict) and name in ("config", "environment", "effective_attention", "encoder"):
                yield (*path, name, True)
            yield from texts(inner, (*path, name))


def with_text(run: dict[str, Any], path: tuple[Any, ...], text: str) -> None:
    *way, last = path
    place: Any = run
    for name in way:
        place = place[name]
    place[text if last is True else last] = 1.0 if last is True else text


class Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.targets += [value or "" for name, value in attrs if name in ("href", "src")]


def rich(task: str, attention: str, seed: int) -> dict[str, Any]:
    """A record with every kind of text that one can hold."""
    distilled = {"task": task, "rows_seen": 9, "seconds": 1.0, "distance_before": 0.5, "distance_after": 0.2}
    made = record(
        task, attention, seed, 60, init="out/a", config={"pooling": "mean", "head_dim": None},
        conversion={"from": "dense", "distillation": distilled}, encoder={"hidden_act": "gelu"},
        command="longread train",
        lineage=[{"role": "init", "run_id": "abc", "kind": "train", "seconds": 1.0}], truncated_fraction=0.5,
    )  # fmt: skip
    return looked_at_closely(made)


def hostile_study(out: Path, text: str) -> None:
    """One record with the text in all places, and for each other place one with it there alone."""
    clean = rich("reviews", "linformer", 0)
    places = [path for path in texts(clean) if path[0] not in KEPT]
    assert len(places) > 20
    everywhere = copy.deepcopy(clean)
    for path in places:
        with_text(everywhere, path, text)
    for index, run in enumerate((clean, rich("reviews", "dense", 1), everywhere)):
        name = run["run_id"]
        folder = write_run(out, run | {"run_id": f"{index:016x}"}, 0.8, curve=2)
        write_json(folder / "run.json", run | {"run_id": name})
        maps = attention_map(str(run["attention"]), size=6)
        write_json(folder / "attention_map.json", maps | {"tokens": [text] * 6, "note": text})
    failed = everywhere | {"run_id": "f" * 16, "status": "error", "metrics": {}}
    write_run(out, failed)
    for number, attention in enumerate(("reviews", text)):
        lengths = record("lengths", "dense", 0, 0, kind="benchmark", metrics={}, run_id=f"{number:015x}b")
        lengths["config"]["precision"] = text if number else "float32"
        lengths |= {"attention": attention, "samples": [{"length": 8, "phase": "forward", "seconds": [1.0]}]}
        write_run(out, lengths)


@pytest.mark.parametrize("text", HOSTILE, ids=["attributes", "elements", "paths and formulas", "markdown"])
def test_no_text_of_a_record_becomes_markup(text: str, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "er" / "report"
    hostile_study(out, text)
    build_report(out)
    page = Elements()
    page.feed((out / "index.html").read_text("utf-8"))
    assert page.tags.count("script") == 2
    assert {"img", "iframe", "object", "embed", "base", "link"}.isdisjoint(page.tags)
    assert not [name for name in page.attributes if name.startswith("on")]
    assert all(target.startswith(("#", "data:image/png")) for target in page.targets)
    assert {"style", "id", "data-map"} <= page.attributes
    for file in (out / "figures").glob("*.svg"):
        drawn = {element.tag.rpartition("}")[2] for element in ElementTree.parse(file).iter()}
        assert {"script", "foreignObject", "img"}.isdisjoint(drawn), file.name
    written = {path.relative_to(tmp_path).parts[:3] for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {("deep", "er", "report")}
    prose = re.sub(r"^(`{3,}).*?^\1$", "", (out / "report.md").read_text("utf-8"), flags=re.M | re.S)
    assert not re.search(r"<(?!/?(details|summary|code|a)\b)[a-z/!]", prose, re.I)
    assert "](javascript" not in prose
    assert "\x1b" not in summary_table(load_runs(out))


def test_the_page_runs_its_own_script_alone(tmp_path: Path) -> None:
    """The browser is told the script's hash: what got into the page all the same would not run."""
    import base64
    import hashlib

    write_run(tmp_path, record("reviews", "dense", 0, 60), 0.8)
    page = build_report(tmp_path).read_text("utf-8")
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    script = re.search(r"<script>(.*?)</script>", page, re.S)
    assert policy is not None
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy[1]
    assert "script-src 'unsafe-inline'" not in policy[1]


ODD = (None, "text", [], {}, [1, "a"], {"a": []}, -1, 0, 3.5, float("nan"), float("inf"), 10**400, True)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*path, name)
        if isinstance(inner, dict | list):
            yield from places(inner, (*path, name))


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: repr(odd)[:12])
def test_an_odd_value_costs_at_most_its_own_record(odd: Any, tmp_path: Path) -> None:
    """Every field of a record, one after the other, holds something else: a row with gaps, or left out by name."""
    sound = record("reviews", "dense", 0, 40)
    write_run(tmp_path, sound, 0.8)
    clean = rich("reviews", "linformer", 1) | {"dataset": copy.deepcopy(sound["dataset"])}
    ways = list(places(clean))
    assert len(ways) > 60
    for number, way in enumerate(ways):
        run = copy.deepcopy(clean)
        if way[0] == "conversion":
            del run["lineage"]  # then it is read from the conversion, as of records that had none
        place: Any = run
        for name in way[:-1]:
            place = place[name]
        place[way[-1]] = odd
        folder = tmp_path / "runs" / f"{number:016x}"
        folder.mkdir()
        if way != ("run_id",):
            run["run_id"] = folder.name
        (folder / "run.json").write_text(json.dumps(run))
    text = build_report(tmp_path, figures=False).read_text("utf-8")
    assert re.search(r"^\| Dense +\|", text, re.M)
    assert summary_table(load_runs(tmp_path))


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: repr(odd)[:12])
def test_an_odd_file_beside_a_record_costs_at_most_that_record(odd: Any, tmp_path: Path) -> None:
    write_run(tmp_path, record("reviews", "dense", 0, 40), 0.8, curve=2)
    write_benchmarks(tmp_path)
    others = [record("reviews", "linformer", 1, 40), record("reviews", "performer", 1, 40)]
    entries = [{"epoch": odd, "train_loss": 0.5, "eval_accuracy": 0.5}, {"epoch": 1, "eval_accuracy": odd}]
    for run, entry in zip(others, entries, strict=True):
        folder = write_run(tmp_path, run, 0.8)
        (folder / "history.jsonl").write_text(json.dumps(entry) + "\n")
        maps = attention_map("linformer", size=4)
        (folder / "attention_map.json").write_text(json.dumps(maps | {"heads": odd} if run is others[0] else odd))
    for name in ("length", "phase", "seconds", "peak_memory_bytes", "floor_seconds"):
        sample = {"length": 8, "phase": "forward", "seconds": [1.0]} | {name: odd}
        bench = record("lengths", "dense", 0, 0, kind="benchmark", metrics={}, samples=[sample])
        folder = tmp_path / "runs" / f"bench-{name}"
        folder.mkdir()
        (folder / "run.json").write_text(json.dumps(bench | {"run_id": folder.name}))
    build_report(tmp_path)
    text = (tmp_path / "report.md").read_text("utf-8")
    assert re.search(r"^\| Dense +\|", text, re.M)
    assert "Where each overtakes dense" in text


def test_a_record_that_is_left_out_is_named_with_its_field(tmp_path: Path) -> None:
    write_run(tmp_path, record("reviews", "dense", 0, 40), 0.8)
    odd = record("reviews", "linformer", 0, 40)
    odd["dataset"]["eval"]["rows"] = "many"
    odd["metrics"] = {"accuracy": 0.5}
    write_run(tmp_path, odd)
    text = build_report(tmp_path, figures=False).read_text("utf-8")
    assert f"runs/{odd['run_id']}: dataset.eval.rows is 'many'" in text
    assert "Linformer" not in text.split("## How to read")[0].split("## reviews")[1]
