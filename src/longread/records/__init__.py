"""Run records: what a run was, what it measured, and where its raw results lie. Files and JSON, never torch."""

from longread.records.files import (
    canonical,
    fingerprint,
    remove_leftovers,
    temporary_folder,
    write_atomically,
    write_json,
    write_lines,
)
from longread.records.lock import LOCK, check_held, locked
from longread.records.predictions import write_predictions
from longread.records.record import (
    SCHEMA,
    STATUSES,
    Ancestor,
    Dataset,
    Environment,
    RunRecord,
    SplitRecord,
    current_names,
)
from longread.records.store import (
    Run,
    find_run,
    load_run,
    load_runs,
    read_runs,
    rewrite_record,
    run_id,
    with_error,
    write_record,
)

__all__ = [
    "LOCK",
    "SCHEMA",
    "STATUSES",
    "Ancestor",
    "Dataset",
    "Environment",
    "Run",
    "RunRecord",
    "SplitRecord",
    "canonical",
    "check_held",
    "current_names",
    "find_run",
    "fingerprint",
    "load_run",
    "load_runs",
    "locked",
    "read_runs",
    "remove_leftovers",
    "rewrite_record",
    "run_id",
    "temporary_folder",
    "with_error",
    "write_atomically",
    "write_json",
    "write_lines",
    "write_predictions",
    "write_record",
]
