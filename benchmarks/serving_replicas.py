"""Requests a second of `longread serve` as one process and as two, and of Ray Serve with one replica and with two.

    python -m benchmarks.serving_replicas --data-dir DIR --out results/serving        # 4 minutes on two idle cores

The texts and clients of benchmarks/serving.py, with dense; each process or replica has one thread, but for the process
of two threads beside them. Without the extra `ray` its two rows are left out, which is said.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import tempfile
import threading
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.serving import SECONDS, Service, load, make_checkpoint, texts

CLIENTS = (8, 32)
SIDES = {
    "one process, one thread": ["--workers", "1", "--threads", "1"],
    "one process, two threads": ["--workers", "1", "--threads", "2"],
    "--workers 2": ["--workers", "2", "--threads", "2"],
    "Ray Serve, 1 replica": [],
    "Ray Serve, 2 replicas": [],
}


def command(side: str, checkpoint: Path, port: int) -> list[str]:
    if not side.startswith("Ray"):
        return ["-m", "longread", "serve", str(checkpoint), "--port", str(port), *SIDES[side]]
    return ["-m", "benchmarks.serving_replicas", "--serve", side.split()[2], str(checkpoint), str(port)]


def serve_on_ray(replicas: str, checkpoint: str, port: str) -> None:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray
    from ray import serve

    from longread.serving.ray import application

    # A cluster of its own: the replicas find this project's modules where this process does.
    found = {"env_vars": {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}}
    ray.init(address="local", num_cpus=2, log_to_driver=False, include_dashboard=False, runtime_env=found)
    serve.start(http_options={"port": int(port)}, proxy_location="HeadOnly")
    # Half a core each is what Ray sets aside; the threads decide what they use.
    serve.run(application({"checkpoint": checkpoint, "replicas": replicas, "cpus": 0.5, "threads": 1}))
    threading.Event().wait()


def main() -> int:
    if sys.argv[1:2] == ["--serve"]:  # a process of this benchmark's own
        serve_on_ray(*sys.argv[2:])
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("LONGREAD_DATA_DIR"))
    parser.add_argument("--out", type=Path, default=Path("out/serving"))
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each measurement")
    given = parser.parse_args()
    from longread.records import write_json

    made = measure(given.data_dir and Path(given.data_dir), given.seconds)
    write_json(given.out / "replicas.json", made, indent=None)
    print(given.out / "replicas.json", file=sys.stderr)
    return 0


def measure(data_dir: Path | None, seconds: float) -> dict[str, Any]:
    import torch

    from longread.system.measure import environment, foreign_load

    _, mixed, _ = texts(data_dir)
    sides = list(SIDES)
    if importlib.util.find_spec("ray") is None:
        print("Ray is not installed: its rows are left out", file=sys.stderr)
        sides = [side for side in sides if not side.startswith("Ray")]
    before, found = foreign_load(), []
    with tempfile.TemporaryDirectory() as directory:
        checkpoint = make_checkpoint("dense", Path(directory))
        for number, side in enumerate(sides):
            port = 8900 + number
            service = Service(command(side, checkpoint, port), port, side)
            try:
                load(service, mixed, 8, 3.0)  # warm up every process
                for clients in CLIENTS:
                    made = load(service, mixed, clients, seconds)
                    found.append({"side": side, "clients": clients, **made})
                    rate = made["requests"] / made["seconds"]
                    print(f"{side}, {clients} clients: {rate:.1f} requests/s, {made['errors']} errors", file=sys.stderr)
            finally:
                service.stop()
    described = environment(torch.device("cpu"), "float32") | {"load_at_start": before, "load_at_end": foreign_load()}
    names = ("torch", "fastapi", "uvicorn", *(["ray"] if len(sides) == len(SIDES) else []))
    described["versions"] = {name: version(name) for name in names}
    return {"texts": len(mixed), "environment": described, "found": found}


if __name__ == "__main__":
    sys.exit(main())
