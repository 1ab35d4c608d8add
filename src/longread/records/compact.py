"""A study to be kept: python -m longread.records.compact OUT [INTO] [--maps]

Reads the runs of OUT (a folder each, in OUT/runs/) and what INTO (default: OUT) already keeps, and writes into INTO

    runs.jsonl                   a record a line, with its history; sorted as reports sort them
    predictions-ROWS.parquet     row, label, and every run's predictions on this set of rows (its fingerprint)
    attention_maps.json          with --maps: one run's of each mechanism, by run id

The folders of OUT stay as they are. Attention maps are pictures: no table needs them, so they are kept only on request.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longread.errors import UserError
from longread.records.files import canonical, write_atomically, write_lines
from longread.records.predictions import write_shared
from longread.records.seal import sealed
from longread.records.store import MAPS, RECORDS, Run, read_runs, shared_file

if TYPE_CHECKING:
    from longread.records.predictions import Predicted


def compact(out: Path, into: Path | None = None, *, maps: bool = False) -> list[Run]:
    """Writes the files above and returns the runs in them; a run that both places have is taken from OUT.

    UserError, with nothing written, where a run is damaged or two runs disagree about the same rows.
    """
    into = Path(into or out)
    runs = {run.record["run_id"]: run for place in dict.fromkeys((into, Path(out))) for run in _undamaged(place)}
    if not runs:
        raise UserError(f"{out}: no run records to keep")
    shared: dict[str, dict[str, Predicted]] = {}
    for name, run in runs.items():
        predicted = run.predictions()
        if predicted is not None:
            shared.setdefault(shared_file(run.record), {})[name] = _same_rows(shared, run, predicted)
    kept_maps = {name: found for name, run in runs.items() if run.study and (found := run.attention_map())}
    if maps:
        kept_maps = _one_of_each(list(runs.values()))
    lines = [
        placed(run.record, Path(out)) | ({"history": history} if (history := run.history()) else {})
        for run in runs.values()
    ]
    lines = [sealed(line) for line in lines]
    lines.sort(key=lambda line: tuple(str(line.get(key)) for key in ("task", "attention", "seed", "run_id")))
    for file, members in shared.items():
        write_shared(into / file, dict(sorted(members.items())))
    if kept_maps:
        write_atomically(into / MAPS, canonical(kept_maps) + "\n")
    write_lines(into / RECORDS, lines)  # last: what it names is there
    for path in into.glob("predictions-*.parquet"):
        if path.name not in shared:
            path.unlink()
    return read_runs(into)[0]


def placed(record: dict[str, Any], out: Path) -> dict[str, Any]:
    """A checkpoint that a run of the same folder began from is named by its place there, on whatever machine."""

    def placed(holder: dict[str, Any]) -> dict[str, Any]:
        init = Path(str(holder.get("init") or "."))
        inside = init.resolve().is_relative_to((out / "runs").resolve())
        return holder | {"init": init.resolve().relative_to(out.resolve()).as_posix()} if inside else holder

    return placed(record) | ({"config": placed(record["config"])} if record.get("config") else {})


def _undamaged(directory: Path) -> list[Run]:
    runs, damaged = read_runs(directory)
    if damaged:
        raise UserError(f"{directory}: {damaged[0]}; mend or delete it before the study is made compact")
    return runs


def _same_rows(shared: dict[str, dict[str, Predicted]], run: Run, predicted: Predicted) -> Predicted:
    """The predictions in the order of the rows of their file."""
    import numpy as np

    order = np.argsort(predicted["row"], kind="stable")
    predicted = {name: values[order] for name, values in predicted.items()}
    for first in shared.get(shared_file(run.record), {}).values():
        for name in ("row", "label"):
            if not np.array_equal(first[name], predicted[name]):
                raise UserError(f"{run.directory}: its {name}s are not those of other runs on the same set of rows")
        break
    return predicted


def _one_of_each(runs: list[Run]) -> dict[str, Any]:
    found: dict[str, tuple[str, Any]] = {}
    for run in runs:
        if run.record["attention"] not in found and (stored := run.attention_map()):
            found[run.record["attention"]] = (run.record["run_id"], stored)
    return dict(found.values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("into", type=Path, nargs="?")
    parser.add_argument("--maps", action="store_true")
    given = parser.parse_args()
    try:
        runs = compact(given.out, given.into, maps=given.maps)
    except UserError as error:
        sys.stderr.write(f"compact: {error}\n")
        return 2
    sys.stderr.write(f"compact: {len(runs)} runs in {given.into or given.out}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
