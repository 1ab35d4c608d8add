"""What waiting costs: a small training step on one thread and on two, alone and beside other programs.

    python -m benchmarks.threads [--out results/reliability/threads.json]      two minutes of an idle machine

libgomp's threads spin while they wait for each other; on a core that another program has, the others spin in vain.
Each row is a process of its own: seconds of STEPS updates of a small encoder, median of ROUNDS rounds, under the
settings that libgomp reads when it is loaded.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
STEPS, ROUNDS, LIMIT_SECONDS = 10, 3, 30
SETTINGS: dict[str, dict[str, str]] = {
    "default": {},
    "OMP_WAIT_POLICY=passive": {"OMP_WAIT_POLICY": "passive"},
    "GOMP_SPINCOUNT=0": {"GOMP_SPINCOUNT": "0"},
    "KMP_BLOCKTIME=0": {"KMP_BLOCKTIME": "0"},
}
SPIN = "while True: pass"


def work() -> list[float]:
    """Seconds of each round of updates on 16 sequences of 128 tokens."""
    import torch

    import longread

    torch.manual_seed(0)
    model = longread.build("dense", num_hidden_layers=2, hidden_size=64, num_labels=2, vocab_size=1000)
    optimizer = torch.optim.AdamW(model.parameters())
    ids, mask = torch.randint(1000, (16, 128)), torch.ones(16, 128, dtype=torch.bool)
    seconds = []
    for _ in range(ROUNDS + 1):
        began = time.perf_counter()
        for _ in range(STEPS):
            torch.nn.functional.cross_entropy(model(ids, mask), ids[:, 0] % 2).backward()
            optimizer.step()
            optimizer.zero_grad()
        seconds.append(time.perf_counter() - began)
    return seconds[1:]


def measure(threads: int, setting: str, others: int) -> dict[str, Any]:
    unset = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment |= SETTINGS[setting] | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    beside = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(others)]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.threads", "--work"],
            env=environment, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=True,
        )  # fmt: skip
        seconds = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        seconds = None
    finally:
        for process in beside:
            process.kill()
            process.wait()
    row = {"threads": threads, "setting": setting, "busy_loops_beside": others}
    return row | {"seconds": seconds, "median_seconds": statistics.median(seconds) if seconds else None}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        print(json.dumps(work()))
        return 0
    rows = []
    cores = os.cpu_count() or 1
    for others in (0, cores):
        for threads, setting in [(1, "default"), *((cores, name) for name in SETTINGS)]:
            rows.append(measure(threads, setting, others))
            last = rows[-1]
            seconds = f"{last['median_seconds']:.2f} s" if last["seconds"] else f"over {LIMIT_SECONDS} s"
            print(f"{others} busy loops beside, {threads} threads, {setting}: {seconds}", file=sys.stderr, flush=True)
    if given.out:
        import torch

        from longread.records import write_json
        from longread.system.measure import environment, foreign_load

        made_on = environment(torch.device("cpu"), "float32") | {"load_at_end": foreign_load()}
        what = {"command": "python -m benchmarks.threads --out results/reliability/threads.json", "steps": STEPS}
        write_json(given.out, what | {"rows": rows, "environment": made_on})
    return 0


if __name__ == "__main__":
    sys.exit(main())
