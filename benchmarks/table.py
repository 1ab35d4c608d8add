"""The table of benchmarks/run.py, from its records alone: python -m benchmarks.table DIR [INTO]

With INTO, DIR's records are kept there, in INTO/runs.jsonl, with those that it has of other rows; its table is made.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.parts import ROWS, record_name

BUSY = 0.25  # cores that other programs kept busy when a measurement began or ended
OTHER = "§"  # measured on another machine than the first row


def ratios(record: dict[str, Any]) -> list[float]:
    """The peer's seconds in parts of ours, turn by turn."""
    return [peer / ours for ours, peer in zip(record["seconds"]["ours"], record["seconds"]["peer"], strict=True)]


def summary(record: dict[str, Any]) -> str:
    if record["status"] != "ok":
        return record["status"]
    goal = record["row"]["goal"]
    wanted = f" (goal {goal:g})" if goal else ""
    return f"{median(ratios(record)):.2f} times as fast{wanted}"


def _seconds(values: list[float]) -> str:
    return f"{median(values):.3g} ({min(values):.3g} – {max(values):.3g})"


def allocator_of(record: dict[str, Any]) -> str:
    """ "default" or "tuned", on both sides; "" for records from when ours alone was tuned."""
    return record["environment"].get("allocator") or ""


def machine_of(record: dict[str, Any]) -> str:
    """`AMD EPYC, 2 threads`."""
    return f"{record['environment']['processor']}, {record['environment']['threads']} threads"


def _line(record: dict[str, Any], tuned: dict[str, Any] | None, machine: str) -> list[str]:
    row = record["row"]
    if record["status"] != "ok":
        return [row["what"], row["peer"], record["status"], *[""] * (len(HEADER) - 3)]
    ours, peer = record["seconds"]["ours"], record["seconds"]["peer"]
    # The rate before and after the turns: where they differ, the distance to the floor is known to no more than that.
    percents = [100 * record["flops"] / rate / median(ours) for rate in record["matmul_flops_per_second"]]
    bytes_ = record["bytes"]
    found = ratios(record)
    # Comparing outputs first leaves free memory in the process, in which an inference's peak hides unless it is given
    # back; a training step's is far above it.
    telling = record.get("freed_before") or row["phase"] == "training" or record["difference"] is None
    return [
        row["what"] + _marks(record, machine),
        row["peer"],
        _seconds(ours),
        _seconds(peer),
        f"**{median(found):.2f}** ({min(found):.2f} – {max(found):.2f})",
        "–" if tuned is None or tuned["status"] != "ok" else f"{median(ratios(tuned)):.2f}" + _mark(tuned),
        f"{row['goal']:g}" if row["goal"] else "–",
        f"{min(percents):.0f} – {max(percents):.0f}",
        f"{bytes_['ours'] / 2**20:,.0f}" if telling else "–",
        f"{bytes_['ours'] / max(1, bytes_['peer']):.2f}" if telling else "–",
        "–" if record["difference"] is None else f"{record['difference']:.1e}",
    ]


def _marks(record: dict[str, Any], machine: str) -> str:
    older, other = "" if allocator_of(record) else "‡", OTHER if machine_of(record) != machine else ""
    return _mark(record) + older + other


def _mark(record: dict[str, Any]) -> str:
    return "†" if max(record["environment"][k] for k in ("load_at_start", "load_at_end")) > BUSY else ""


HEADER = ["Work", "Peer", "Ours, s", "Peer, s", "Ratio", "Ratio, tuned", "Goal", "Of the floor, %", "Memory, MiB",
          "Memory, of the peer's", "Outputs differ by"]  # fmt: skip


def read_records(directory: Path) -> dict[str, dict[str, Any]]:
    """By the name of their row and allocator: those kept in runs.jsonl, and newer ones, a folder each in runs/."""
    kept = directory / "runs.jsonl"
    texts = kept.read_text("utf-8").splitlines() if kept.exists() else []
    texts += [path.read_text("utf-8") for path in sorted(directory.glob("runs/*/run.json"))]
    records = [json.loads(text) for text in texts]
    return {record_name(record["row"]["name"], allocator_of(record)): record for record in records}


def keep(directory: Path, into: Path) -> None:
    from longread.records import write_lines

    records = read_records(into) | read_records(directory)
    write_lines(into / "runs.jsonl", [records[name] for name in sorted(records)])


def markdown(directory: Path) -> str:
    records = read_records(directory)
    ordered = [records[row.name] for row in ROWS if row.name in records]
    if not ordered:
        return "No records.\n"
    machine = machine_of(ordered[0])
    found = [_line(record, records.get(record_name(record["row"]["name"], "tuned")), machine) for record in ordered]
    lines = [HEADER, ["---", "---", *["---:"] * (len(HEADER) - 2)], *found]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    elsewhere = "".join(f"; {OTHER} {one}" for one in sorted({machine_of(each) for each in ordered} - {machine}))
    return f"""# Beside the peers

Median seconds (least – most) of one pass over the same texts; the two sides are processes of their own, with the same
environment, allocator and threads, and take turns. Ratio: the peer's seconds in parts of ours, turn by turn, median
(least – most), with the allocator as every Python program has it; tuned: after `longread.tune_allocator()` on both
sides. Floor: floating-point operations of the products ÷ the rate of a 2048³ product measured in the same run, before
the turns and after (two values); 100 % is a pass that takes no longer than that. Memory: highest above the loaded
program. Outputs: largest difference of log-probabilities in float32 before anything was timed, with one set of weights
on both sides (– where the models differ). Memory is – where comparing outputs hid it. † other programs were at work.

Where a model reads the first token alone, as most published classifiers do, our last block computes that token alone,
and the peers' all of them: of the products outside attention that is three eighths in a model of two layers, an eighth
in one of six and a sixteenth in one of twelve. Rows of two layers owe much of their ratio to it.

`transformers`' BigBird plans its blocks for the padded length: what it answers for a shorter text depends on the batch,
and that is the difference of outputs on reviews. Text by text both agree as in the other rows.
{_older(ordered)}
{table}

{machine}{elsewhere}; torch {ordered[0]["environment"]["torch"]}; peers: {_versions(ordered)}.
Made anew by `make benchmark` (or `python benchmarks/run.py PART`, --out this folder).
"""


def _older(records: list[dict[str, Any]]) -> str:
    if all(map(allocator_of, records)):
        return ""
    return "‡ measured when our side alone had the tuned allocator: too high by what that brings.\n"


def _versions(records: list[dict[str, Any]]) -> str:
    found = {(r["row"]["peer"], r["environment"]["peer_version"]) for r in records if r["row"]["peer"] != "dense"}
    return ", ".join(f"{name} {number}" for name, number in sorted(found))


def write_report(directory: Path) -> Path:
    path = directory / "report.md"
    path.write_text(markdown(directory), "utf-8")
    return path


if __name__ == "__main__":
    made, *kept = [Path(place) for place in sys.argv[1:3]]
    for place in kept:
        keep(made, place)
    print(write_report(kept[0] if kept else made))
