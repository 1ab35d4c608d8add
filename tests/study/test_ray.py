"""Runs on a Ray cluster: what a task does on its machine, the store, and a cluster where Ray is installed."""

from __future__ import annotations

import os
import signal
import socket
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from test_train import small

from longread import __version__, records
from longread.cli import main as cli
from longread.config import RunConfig
from longread.errors import UserError
from longread.study.chain import Step
from longread.study.cluster import Cluster
from longread.study.ray import _Driver, check_reachable, connected, run_order, run_steps
from longread.study.store import Store, key_of
from longread.training.run import train


class Events(list[tuple[int, dict[str, Any]]]):
    """As Ray's queue."""

    put = list.append

    def kinds(self) -> list[str]:
        return [event["event"] for _, event in self]


def order(config: RunConfig, **changes: Any) -> dict[str, Any]:
    return {
        "version": __version__, "place": os.getcwd(), "environment": {}, "index": 3, "config": config.to_json(),
        "distill_steps": None, "begins_from": None, "store": None, "seen": "nothing", "mechanisms": [],
    } | changes  # fmt: skip


def test_an_address_where_nobody_listens_is_told_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        for address in (place, f"ray://{place}", "127.0.0.1:99999"):
            with pytest.raises(UserError, match=f"--address {address}: nobody answers there"):
                check_reachable(address)
        taken.listen()
        for address in (place, f"ray://{place}", "auto", "local", None):
            check_reachable(address)


@pytest.mark.parametrize(
    ("address", "told"), [(None, "--on ray: no cluster answers or starts"), ("auto", "--address a")]
)
def test_a_cluster_that_does_not_start_is_told_in_a_line(
    address: str | None, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**_: Any) -> None:
        raise Exception("The current node timed out\nduring startup")

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=init))
    with pytest.raises(UserError, match=told) as caught, connected(Cluster(address=address)):
        pass
    assert "timed out during startup" in str(caught.value)


def test_what_a_machine_lacks_is_told_in_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class RayError(Exception):
        pass

    class RayTaskError(RayError):
        cause = UserError("node7 does not see --out")

    class Both(RayTaskError, UserError):  # what Ray makes of it
        pass

    def get(_: Any) -> str:
        raise Both("ray::run_order() (pid=7)\n  File ...")

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)
    ray = SimpleNamespace(exceptions=exceptions, get=get, init=lambda **_: None, shutdown=lambda: None)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.exceptions", exceptions)
    step, driver = Step(small(tmp_path)), object.__new__(_Driver)
    driver.steps, driver.ray = [step], ray
    with pytest.raises(UserError, match=r"^node7 does not see --out$"), connected(Cluster()):
        driver._end(None, step)


def test_a_store_that_cannot_be_is_told_before_a_cluster_starts(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--store nowhere://x"):
        run_steps([Step(small(tmp_path))], Cluster(store="nowhere://x"))


def test_a_machine_that_does_not_fit_is_named(tmp_path: Path) -> None:
    config = small(tmp_path)
    with pytest.raises(UserError, match="does not see --out"):
        run_order(order(config), Events())
    with pytest.raises(UserError, match=f"has longread {__version__}, not 0.0.1"):
        run_order(order(config, version="0.0.1"), Events())
    with pytest.raises(UserError, match="--store nowhere://x"):
        Store("nowhere://x")


def test_a_run_goes_on_from_the_states_in_the_store_and_is_skipped_when_finished(tmp_path: Path) -> None:
    config = replace(small(tmp_path / "straight", train_rows=64, epochs=3), threads=1)
    straight = train(config)

    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "epoch":
            os.kill(os.getpid(), signal.SIGTERM)

    lost = replace(config, out=tmp_path / "lost")
    assert train(lost, on_event=stop).record["status"] == "interrupted"
    url, key = f"file://{tmp_path}/store", key_of(lost, None, None)
    store = Store(url)
    store.put_states(key, lost.out)
    assert len(list(tmp_path.glob(f"store/begun/{key}/*/state-*"))) == 1
    events, elsewhere = Events(), replace(config, out=tmp_path / "elsewhere")
    name = run_order(order(elsewhere, store=url), events)
    assert "resumed" in events.kinds()
    assert {index for index, _ in events} == {3}
    assert not elsewhere.out.exists()
    assert not list(tmp_path.glob("store/begun/*/*"))
    assert (tmp_path / "store" / "runs" / name / "checkpoint" / "model.safetensors").exists()
    store.get_record(name, tmp_path / "here")
    (run,) = records.load_runs(tmp_path / "here")
    assert run.record["run_id"] == straight.record["run_id"]
    mine, expected = run.predictions(), straight.predictions()
    assert mine is not None
    assert expected is not None
    assert all(np.array_equal(mine[column], expected[column]) for column in expected)
    again = Events()
    assert run_order(order(elsewhere, store=url), again) == name
    assert again.kinds() == ["skipped"]


def test_the_store_keeps_the_newest_states_alone(tmp_path: Path) -> None:
    store, out = Store("memory://states"), tmp_path
    directory = out / "runs" / "abc"
    directory.mkdir(parents=True)
    names = [f"state-{step:010}-{'0' * 64}.safetensors" for step in range(4)]
    for name in names[:2]:
        (directory / name).write_text(name)
    store.put_states("key", out)
    for name in names[2:]:
        (directory / name).write_text(name)
    store.put_states("key", out)
    store.get_begun("key", tmp_path / "there")
    assert sorted(path.name for path in (tmp_path / "there/runs/abc").iterdir()) == names[2:]
    assert (tmp_path / "there/runs/abc" / names[3]).read_text() == names[3]


def test_a_run_asks_for_the_threads_that_are_set_aside_for_it() -> None:
    assert Cluster().settled(RunConfig()).threads == 1
    assert Cluster(run_cpus=4).settled(RunConfig()).threads == 4
    assert Cluster(run_cpus=4).settled(RunConfig(threads=2)).threads == 2
    assert Cluster().cores(RunConfig(threads=2)) == 2
    with pytest.raises(UserError, match="--run-gpus -1"):
        Cluster(run_gpus=-1)


@pytest.mark.parametrize("option", [["--run-cpus", "2"], ["--store", "s3://bucket"], ["--address", "auto"]])
def test_options_of_a_cluster_need_one(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", *option]) == 2
    assert f"{option[0]}: give --on ray with it" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("store", [False, True])
@pytest.mark.filterwarnings("ignore")
def test_a_chain_runs_on_a_cluster(tmp_path: Path, store: bool) -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    teacher = Step(small(tmp_path / "out", train_rows=32, epochs=1))
    linformer = RunConfig(attention="linformer", train_rows=32, threads=1, out=tmp_path / "out")
    distilled = Step(replace(linformer, projection_size=4, batch_size=8), init=teacher, distill_steps=3)
    tuned = Step(replace(linformer, epochs=1, eval_rows=16), init=distilled)
    impossible = Step(replace(tuned.config, attention="performer"), init=distilled)
    behind = Step(tuned.config, init=impossible)
    cluster = Cluster(address="local", run_memory=0.5, store=str(tmp_path / "store") if store else None)
    runs = run_steps([tuned, behind], cluster)
    assert [run.record["status"] for run in runs] == ["ok"] * 3 + ["error"] * 2
    names = [run.record["run_id"] for run in runs]
    assert [ancestor["run_id"] for ancestor in runs[2].record["lineage"]] == [names[1], names[0]]
    assert runs[2].record["init"].endswith(f"runs/{names[1]}/checkpoint")
    assert {run.record["run_id"] for run in records.load_runs(tmp_path / "out")} == set(names)
