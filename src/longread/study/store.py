"""Runs in a place that all machines of a cluster reach: a folder, or any URL that fsspec knows.

    STORE/runs/RUN/…          a finished run's folder, its record written last
    STORE/begun/KEY/RUN/…     the newest states of a run that has not ended
    STORE/asked/KEY           which run answered this configuration last

KEY is a hash of what a run is asked for: its name is known only when its data and first weights are.
"""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

from longread.config import RunConfig
from longread.errors import UserError
from longread.records import Run, canonical, fingerprint
from longread.records.compact import placed
from longread.training.state import KEPT, PATTERN, state_files

SMALL = ("history.jsonl", "predictions.parquet", "attention_map.json", "run.json")  # what a report reads


def key_of(config: RunConfig, distill_steps: int | None, begins_from: str | None) -> str:
    named = {name: value for name, value in config.named().items() if name != "init" or begins_from is None}
    return fingerprint("asked", canonical(named), str(config.seed), str(distill_steps), str(begins_from))


class Store:
    """UserError for a URL that fsspec cannot open."""

    def __init__(self, url: str) -> None:
        from fsspec.core import url_to_fs

        try:
            self.files, root = url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise UserError(f"--store {url}: {' '.join(str(error).split())}") from None
        self.root = PurePosixPath(root)

    def get_record(self, name: str, out: Path) -> None:
        """All of a run but its checkpoint; the record last."""
        for file in SMALL:
            self._get(f"runs/{name}/{file}", out / "runs" / name / file)

    def get_checkpoint(self, name: str, out: Path) -> None:
        place = self._path(f"runs/{name}/checkpoint")
        for path in self.files.find(place):
            inside = PurePosixPath(self._plain(path)).relative_to(self._plain(place))
            self._get(f"runs/{name}/checkpoint/{inside}", out / "runs" / name / "checkpoint" / inside)

    def get_begun(self, key: str, out: Path) -> None:
        """What an earlier attempt left: the record of a finished run, so that it is skipped, or states to go on."""
        for path in self.files.find(self._path(f"begun/{key}")):
            state = PurePosixPath(path)
            self._get(f"begun/{key}/{state.parent.name}/{state.name}", out / "runs" / state.parent.name / state.name)
        asked = self._path(f"asked/{key}")
        if self.files.exists(asked):
            self.get_record(self.files.cat_file(asked).decode(), out)

    def put_states(self, key: str, out: Path) -> None:
        """Those that are not there yet; older ones go."""
        for directory in {file.parent for file in out.glob(f"runs/*/{PATTERN}")}:
            there = self._names(f"begun/{key}/{directory.name}")
            kept = state_files(directory)[:KEPT]
            for file in kept:
                if file.name not in there:
                    self._put(file, f"begun/{key}/{directory.name}/{file.name}")
            for name in there - {file.name for file in kept}:
                self.files.rm_file(self._path(f"begun/{key}/{directory.name}/{name}"))

    def put_run(self, key: str, run: Run) -> None:
        """A run that has ended. A checkpoint that it began from is named by its place in the store."""
        name, out = run.record["run_id"], run.directory.parent.parent
        if not self._is_done(name):
            for file in sorted(run.directory.rglob("*")):
                inside = file.relative_to(run.directory).as_posix()
                if file.is_file() and inside != "run.json" and not file.match(PATTERN) and file.name[0] != ".":
                    self._put(file, f"runs/{name}/{inside}")
            self._write(json.dumps(placed(run.record, out), indent=1), f"runs/{name}/run.json")
        self._write(name, f"asked/{key}")
        begun = self._path(f"begun/{key}")
        if run.record["status"] == "ok" and self.files.exists(begun):
            self.files.rm(begun, recursive=True)

    def _is_done(self, name: str) -> bool:
        path = self._path(f"runs/{name}/run.json")
        return self.files.exists(path) and json.loads(self.files.cat_file(path))["status"] == "ok"

    def _path(self, inside: str) -> str:
        return str(self.root / inside)

    def _plain(self, path: str) -> str:
        return str(self.files._strip_protocol(path))

    def _names(self, folder: str) -> set[str]:
        return {PurePosixPath(path).name for path in self.files.find(self._path(folder))}

    def _get(self, inside: str, file: Path) -> None:
        path = self._path(inside)
        if self.files.exists(path):
            file.parent.mkdir(parents=True, exist_ok=True)
            self.files.get_file(path, str(file))

    def _put(self, file: Path, inside: str) -> None:
        path = self._path(inside)
        self.files.makedirs(str(PurePosixPath(path).parent), exist_ok=True)
        self.files.put_file(str(file), path)

    def _write(self, text: str, inside: str) -> None:
        """Whole or not at all."""
        path = self._path(inside)
        self.files.makedirs(str(PurePosixPath(path).parent), exist_ok=True)
        with self.files.transaction, self.files.open(path, "wb") as file:
            file.write(text.encode())
