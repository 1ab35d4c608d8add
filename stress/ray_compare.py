"""A grid on a local Ray cluster of two workers, one of which is killed: python stress/ray_compare.py [--store URL]

Six runs are made here, one after the other, and again on the cluster. When both workers have saved a state, one is
killed with all its processes. What must hold: six records of six with status ok, exit status 0, at least one run that
went on from a state, and the same names, weights and predictions as here. Needs the extra `ray`; about three minutes
on 2 cores. The outcome is printed and kept in results/scaling/ray-compare.json; with --store in ray-compare-store.json.

--store moto: a store of S3's kind on this machine (needs s3fs and moto).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from longread.records import Run, load_runs, write_json  # noqa: E402

RESULTS = ROOT / "results" / "scaling"
GRID = ["--attention", "dense", "longformer", "performer", "--seed", "0", "1", "--no-baselines", "--no-benchmark",
        "--train-rows", "768", "--eval-rows", "256", "--epochs", "6", "--hidden-size", "32",
        "--num-attention-heads", "2", "--vocab-size", "500", "--max-length", "256", "--threads", "1",
        "--save-seconds", "1"]  # fmt: skip
RUNS = 6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", help="a folder, an fsspec URL, or moto")
    parser.add_argument("--no-record", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="longread-ray-") as folder:
        found = look(Path(folder), given.store)
    if not given.no_record:
        name = "ray-compare" if given.store is None else "ray-compare-store"
        write_json(RESULTS / f"{name}.json", {**found, "environment": machine()})
    return 0 if found["held"] else 1


def look(place: Path, given_store: str | None = None) -> dict[str, Any]:
    """Does it and prints what became of it; `held`, and the record's other values."""
    began = time.monotonic()
    command = compare(place / "here")
    here = subprocess.run(command, env=environment(), stderr=subprocess.PIPE, text=True, check=False)
    here_seconds = time.monotonic() - began
    assert here.returncode == 0, here.stderr
    with store_of(given_store, place) as (store, more):
        found = on_cluster(place, store, more)
    found |= same(load_runs(place / "here"), load_runs(place / "there"))
    found["seconds_here"] = round(here_seconds, 1)
    held = (
        found["exit_status"] == 0
        and found["ok"] == found["records"] == found["same_run_ids"] == found["same_predictions"] == RUNS
        and found["lost"] >= 1
        and found["resumed"] >= 1
    )
    log = found.pop("log")
    print(f"Ray, 2 workers, one killed: {found['ok']} of {RUNS} records ok, {found['lost']} lost, {found['resumed']} "
          f"went on from a state, {found['same_predictions']} of {RUNS} predict the same as here, "
          f"exit status {found['exit_status']}, {found['seconds']} s (here {found['seconds_here']} s)",
          flush=True)  # fmt: skip
    if not held:
        print(log)
    return {"held": held, "store": given_store, **found}


def compare(out: Path) -> list[str]:
    return [sys.executable, "-m", "longread", "compare", *GRID, "--out", str(out)]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def on_cluster(place: Path, store: str | None, more: dict[str, str]) -> dict[str, Any]:
    """The grid on two workers of one core each; the one that began first is killed."""
    os.environ.update(environment() | more | {"RAY_USAGE_STATS_ENABLED": "0"})
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        first = cluster.add_node(num_cpus=1)
        cluster.add_node(num_cpus=1)
        command = [*compare(place / "there"), "--on", "ray", "--address", cluster.address]
        command += ["--store", store] if store else []
        began = time.monotonic()
        with (place / "log").open("w+") as log:
            process = subprocess.Popen(command, stderr=log, text=True)
            wait_for(lambda: states(place / "there", store) >= 2, process)
            cluster.remove_node(first, allow_graceful=False)
            killed_after = time.monotonic() - began
            code = _ended(process)
            log.seek(0)
            text = log.read()
    finally:
        ray.shutdown()
        cluster.shutdown()
    runs = load_runs(place / "there")
    return {
        "exit_status": code,
        "records": len(runs),
        "ok": sum(run.record["status"] == "ok" for run in runs),
        "lost": text.count("its worker was lost"),
        "resumed": text.count(": resumed"),
        "seconds": round(time.monotonic() - began, 1),
        "killed_after_seconds": round(killed_after, 1),
        "log": text[-4000:],
    }


def _ended(process: subprocess.Popen[str]) -> int:
    """Its exit status; -9 where it took too long and was ended."""
    try:
        return process.wait(timeout=900)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def states(out: Path, store: str | None) -> int:
    """Runs under way that have saved a state where another worker finds it."""
    if store is None:
        return len({path.parent for path in out.glob("runs/*/state-*")})
    from fsspec.core import url_to_fs

    files, root = url_to_fs(store)
    files.invalidate_cache()
    return len({path.rpartition("/")[0] for path in files.find(f"{root}/begun")})


def wait_for(there: Any, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 300
    while not there():
        assert process.poll() is None, "the grid ended before a worker was killed"
        assert time.monotonic() < deadline, "no state was saved within 300 s"
        time.sleep(0.2)


@contextmanager
def store_of(given: str | None, place: Path) -> Iterator[tuple[str | None, dict[str, str]]]:
    if given != "moto":
        yield given, {}
        return
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    more = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1"}  # fmt: skip
    os.environ.update(more)
    try:
        import fsspec

        fsspec.filesystem("s3").mkdir("runs")
        yield "s3://runs/grid", more
    finally:
        server.stop()


def same(here: Sequence[Run], there: Sequence[Run]) -> dict[str, int]:
    import numpy as np

    by_id = {run.record["run_id"]: run for run in there}
    equal = 0
    for run in here:
        mine, other = run.predictions(), by_id.get(run.record["run_id"])
        theirs = other.predictions() if other else None
        equal += bool(mine and theirs and all(np.array_equal(mine[name], theirs[name]) for name in mine))
    return {"same_run_ids": len(by_id.keys() & {run.record["run_id"] for run in here}), "same_predictions": equal}


def machine() -> dict[str, Any]:
    import ray
    import torch

    from longread.system.measure import environment as made_on

    kept = ("commit", "dirty", "processor", "cores", "torch", "python", "platform")
    return {name: value for name, value in made_on(torch.device("cpu"), "float32").items() if name in kept} | {
        "ray": ray.__version__
    }


if __name__ == "__main__":
    sys.exit(main())
