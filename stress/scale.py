"""What holds of one run on many processes: python stress/scale.py [CHECK ...]      (make scale-check: all of it)

Each check is printed as it goes and leaves its record in results/scaling/NAME.json, from which `make report` fills the
tables of docs/howto/scale.md; with --no-record nothing is kept. Exit status 1 where one does not hold; the others are
done all the same. At most half an hour on 2 idle cores, the last check ten minutes of it, and four gigabytes of disk. A
check that needs what is not installed (the extra `ray`) is said to be left out and counts as not run. A check of many
runs or machines is one more function here, in CHECKS.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from longread.records import Run, load_runs, write_json  # noqa: E402

RESULTS = ROOT / "results" / "scaling"
MECHANISMS = ("dense", "longformer", "bigbird", "performer", "linformer")
LARGEST_DIFFERENCE = 1e-5
STREAM_BYTES = 300_000_000
SMALL = ["--train-rows", "96", "--eval-rows", "48", "--batch-size", "16", "--hidden-size", "32",
         "--num-attention-heads", "2", "--num-hidden-layers", "2", "--vocab-size", "500", "--max-length", "256",
         "--dropout", "0.1", "--token-dropout", "0.1", "--threads", "1"]  # fmt: skip
# Longer than the kill takes to come, and not much longer.
KILLED = [*SMALL, "--attention", "longformer", "--epochs", "12", "--save-seconds", "1000"]
# Steps of about a second on one core, so that what processes say to each other is no large part.
WORK = ["--task", "reviews:1024", "--attention", "longformer", "--train-rows", "48", "--eval-rows", "4", "--epochs",
        "1", "--batch-size", "16", "--hidden-size", "256", "--num-attention-heads", "4", "--num-hidden-layers", "4",
        "--vocab-size", "1000", "--max-length", "1024", "--tokens-per-micro-batch", "4096", "--precision", "float32",
        "--seed", "0"]  # fmt: skip
TURNS = 3


@dataclass(frozen=True)
class Found:
    """What a check has found; `record` goes into its file beside the commit and the machine."""

    held: bool
    record: dict[str, Any]


@dataclass(frozen=True)
class Check:
    """`promise`: what holds, in one sentence. `look` writes under the folder that it is given. `needs`: a package."""

    name: str
    promise: str
    look: Callable[[Path], Found]
    needs: str | None = None

    @property
    def can_run(self) -> bool:
        return self.needs is None or importlib.util.find_spec(self.needs) is not None


def command(processes: int, *options: str, torchrun: Sequence[str] = ()) -> list[str]:
    if processes == 1:
        return [sys.executable, "-m", "longread", *options]
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), *torchrun]
    return [sys.executable, *start, "-m", "longread", *options]


def environment(threads: int = 1) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
    return os.environ | {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "PYTHONPATH": path}


def train(processes: int, out: Path, *options: str, threads: int = 1, torchrun: Sequence[str] = ()) -> Run:
    own = command(processes, "train", *options, "--out", str(out), torchrun=torchrun)
    done = subprocess.run(own, env=environment(threads), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return only_run(out)


def only_run(out: Path) -> Run:
    (run,) = load_runs(out)
    return run


def same_losses(place: Path) -> Found:
    """Every mechanism on 1, 2 and 4 processes: how far the losses of training and evaluation are from those of 1."""
    largest: dict[str, dict[str, float]] = {}
    for name in MECHANISMS:
        runs = {n: train(n, place / f"{name}-{n}", "--attention", name, "--epochs", "3", *SMALL) for n in (1, 2, 4)}
        largest[name] = {str(n): _difference(runs[1], runs[n]) for n in (2, 4)}
        print(f"  {name}: " + ", ".join(f"{n} processes {far:.1e}" for n, far in largest[name].items()), flush=True)
    worst = max(far for own in largest.values() for far in own.values())
    return Found(worst <= LARGEST_DIFFERENCE, {"largest_difference": largest, "epochs": 3, "precision": "float32"})


def _difference(one: Run, other: Run) -> float:
    keys = ("train_loss", "eval_loss")
    lines = zip(one.history(), other.history(), strict=True)
    return max(abs(a[key] - b[key]) for a, b in lines for key in keys)


def killed(place: Path) -> Found:
    """Of two processes one is killed under way, the first or the second; then torchrun begins again by itself."""
    whole = train(2, place / "whole", *KILLED)
    found: dict[str, Any] = {}
    for case, rank, more in (
        ("second", 1, ()),
        ("first", 0, ()),
        ("torchrun begins again", 1, ("--max-restarts", "1")),
    ):
        out = place / case.replace(" ", "-")
        own = command(2, "train", *KILLED, "--out", str(out), torchrun=more)
        step, said, code = _kill(own, out, rank)
        if not more:
            lines = said.splitlines()
            ours = next((line for line in lines if line.startswith("longread: process")), "")
            again = shlex.split(ours.partition(" -m longread ")[2])
            done = subprocess.run(command(2, *again), env=environment(), capture_output=True, text=True)
            assert done.returncode == 0, said + done.stderr
            told = f"process {rank} of 2 has ended" in ours and code != 0
        else:
            told = code == 0
        equal = _same_bits(whole, only_run(out))
        found[case] = {"killed_after_epoch": step, "told": told, "equal_bits": equal}
        print(f"  {case}: killed after epoch {step}, told {told}, equal bits {equal}", flush=True)
    return Found(all(case["told"] and case["equal_bits"] for case in found.values()), {"cases": found})


def _kill(own: Sequence[str], out: Path, rank: int) -> tuple[int, str, int]:
    """Kills the process of this rank in the third epoch; the epoch, what was said, and the exit status."""
    with (out.parent / f"{out.name}.said").open("w+") as said:
        process = subprocess.Popen(own, env=environment(), stdout=said, stderr=said, text=True)
        epochs = 0
        while process.poll() is None and epochs < 2:
            time.sleep(0.02)
            epochs = sum(len(path.read_text().splitlines()) for path in out.glob("runs/*/history.jsonl"))
        for child in psutil.Process(process.pid).children():
            if child.environ().get("RANK") == str(rank):
                child.kill()
        code = process.wait(300)
        said.seek(0)
        return epochs, said.read(), code


def _same_bits(one: Run, other: Run) -> bool:
    import torch
    from safetensors.torch import load_file

    a, b = (load_file(run.directory / "checkpoint" / "model.safetensors") for run in (one, other))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def seconds(place: Path) -> Found:
    """The same training by two processes of a thread, by one process of two threads, and by one of one; in turns."""
    ways = {"1 process, 1 thread": (1, 1), "1 process, 2 threads": (1, 2), "2 processes, 1 thread each": (2, 1)}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(TURNS):
        for name, (processes, threads) in ways.items():
            out = place / f"{turn}-{processes}-{threads}"
            run = train(processes, out, *WORK, "--threads", str(threads), threads=threads)
            taken[name].append(run.record["train_seconds"])
            print(f"  {name}: {taken[name][-1]:.1f} s", flush=True)
    middle = {name: statistics.median(own) for name, own in taken.items()}
    mine = middle["2 processes, 1 thread each"]
    ratios = {name: middle[name] / mine for name in ways if name != "2 processes, 1 thread each"}
    text = " ".join(WORK)
    return Found(ratios["1 process, 1 thread"] > 1, {"seconds": taken, "times_as_fast_as": ratios, "work": text})


def ray_compare(place: Path) -> Found:
    """A grid of six runs on a Ray cluster of two workers, one of which is killed (stress/ray_compare.py)."""
    from importlib.metadata import version

    from stress.ray_compare import look

    found = look(place)
    return Found(found.pop("held"), {**found, "ray": version("ray")})


def tune(place: Path) -> Found:
    """A search for settings against the default ones (stress/tune.py)."""
    from stress.tune import look

    found = look(place)
    return Found(found.pop("held"), found)


def stream_memory(place: Path) -> Found:
    """Whole streamed runs on up to ten million rows (benchmarks/stream_memory.py)."""
    from benchmarks.stream_memory import ROWS, measure

    runs = measure(list(ROWS), place)
    environment = machine()
    held = runs[-1]["above_bytes"] < STREAM_BYTES
    return Found(held, {"runs": [run | {"environment": environment} for run in runs]})


CHECKS = [
    Check("same-losses", "2 and 4 processes have the losses of 1, to 1e-5", same_losses),
    Check("killed", "a killed process is named, and the run ends with the bits of one that nobody stopped", killed),
    Check("seconds", "two processes on two cores are faster than one on one", seconds),
    Check(
        "ray-compare", "a grid on a Ray cluster, a worker killed: every record, the same as here", ray_compare, "ray"
    ),
    Check("tune", "the settings that a search finds beat the default ones on rows that it never read", tune),
    Check("stream-memory", "ten million rows take less than 300 MB above the model", stream_memory),
]


def looked(check: Check) -> Found:
    """What it finds; a command that failed is printed, and the check does not hold."""
    try:
        with tempfile.TemporaryDirectory(prefix="longread-scale-") as folder:
            return check.look(Path(folder))
    except (AssertionError, RuntimeError, OSError, subprocess.SubprocessError) as error:
        print(f"  {type(error).__name__}: {error}", flush=True)
        return Found(False, {"error": str(error).splitlines()[-1] if str(error) else type(error).__name__})


def machine() -> dict[str, Any]:
    import torch

    from longread.system.measure import environment as measured

    values = measured(torch.device("cpu"), "float32")
    return {key: values[key] for key in ("commit", "dirty", "processor", "cores", "torch", "python", "platform")}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checks", nargs="*", metavar="CHECK", help="default: all")
    parser.add_argument("--no-record", action="store_true")
    given = parser.parse_args()
    known = {check.name: check for check in CHECKS}
    unknown = [name for name in given.checks if name not in known]
    if unknown:
        parser.error(f"{', '.join(unknown)}: there is no such check; there are {', '.join(known)}")
    ended = {"held": 0, "not held": 0, "not run": 0}
    for name in given.checks or known:
        check, began = known[name], time.monotonic()
        print(f"{name}: {check.promise}", flush=True)
        if not check.can_run:
            print(f"  left out: {check.needs} is not installed", flush=True)
            ended["not run"] += 1
            continue
        found = looked(check)
        ended["held" if found.held else "not held"] += 1
        print(f"  {'held' if found.held else 'DOES NOT HOLD'}, {time.monotonic() - began:.0f} s", flush=True)
        if not given.no_record and "error" not in found.record:
            write_json(
                RESULTS / f"{name}.json",
                {"promise": check.promise, **asdict(found)["record"], "held": found.held, "environment": machine()},
            )
    print(", ".join(f"{count} {what}" for what, count in ended.items()))
    return 1 if ended["not held"] else 0


if __name__ == "__main__":
    sys.exit(main())
