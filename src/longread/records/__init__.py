"""Run records: what a run was, what it measured, and where its raw results lie. Files and JSON, never torch."""

from longread.records.files import canonical, fingerprint, write_atomically, write_json, write_lines
from longread.records.predictions import write_predictions
from longread.records.store import SCHEMA, STATUSES, Run, find_run, load_run, load_runs, read_runs, run_id

__all__ = [
    "SCHEMA",
    "STATUSES",
    "Run",
    "canonical",
    "find_run",
    "fingerprint",
    "load_run",
    "load_runs",
    "read_runs",
    "run_id",
    "write_atomically",
    "write_json",
    "write_lines",
    "write_predictions",
]
