"""Run records: what a run was, what it measured, and where its raw results lie. Files and JSON, never torch."""

from longread.records.files import canonical, fingerprint, write_atomically, write_json
from longread.records.store import SCHEMA, STATUSES, Run, load_run, load_runs, run_id, write_predictions

__all__ = [
    "SCHEMA",
    "STATUSES",
    "Run",
    "canonical",
    "fingerprint",
    "load_run",
    "load_runs",
    "run_id",
    "write_atomically",
    "write_json",
    "write_predictions",
]
