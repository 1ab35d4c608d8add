"""How each run can be had again: its command and its whole configuration."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from longread.config import RunConfig
from longread.report.mechanisms import title_of
from longread.report.tables import STATUS

if TYPE_CHECKING:
    from longread.records import Run
    from longread.report.groups import Group


@dataclass(frozen=True)
class RunCard:
    title: str
    run_id: str
    status: str
    command: str
    details: str  # JSON


def run_cards(runs: Sequence[Run], groups: Sequence[Group]) -> list[RunCard]:
    """One for each run, under the name of its row in the tables where it has one."""
    names = {id(run): line.name() for group in groups for line in group.lines for run in line.runs}
    cards = []
    for run in runs:
        record = run.record
        attention = names.get(id(run)) or title_of(str(record.get("attention")))
        seed = f", seed {record['seed']}" if record.get("seed") is not None else ""
        status = "" if record.get("status") == "ok" else f", {STATUS.get(str(record.get('status')), 'failed')}"
        title = f"{record.get('task')}, {attention}{seed}{status}"
        keys = ("kind", "conversion", "config", "seed", "chosen_epoch", "dataset", "environment", "created", "error")
        kept = {key: record[key] for key in keys if record.get(key) is not None}
        details = json.dumps(kept, indent=1, sort_keys=True, ensure_ascii=False)
        cards.append(RunCard(title, str(record.get("run_id")), str(record.get("status")), command_of(record), details))
    return cards


def command_of(record: Mapping[str, Any]) -> str:
    """The command as recorded, else what a training run's configuration amounts to, defaults left out."""
    if record.get("command"):
        return str(record["command"])
    if record.get("kind") not in ("train", "pretrain"):
        return ""
    config = {**(record.get("config") or {}), "init": record.get("init")}
    command, task, attention = (str(record.get(name)) for name in ("kind", "task", "attention"))
    words = ["longread", command, "--task", task, "--attention", attention]
    defaults = {field.name: field.default for field in dataclasses.fields(RunConfig)}
    for option in sorted({*defaults, *config}):  # by name: the order of the fields may change
        value = config.get(option)
        if value in (None, defaults.get(option)) or option in ("task", "attention", "seed", "out", "data_dir"):
            continue
        name = option.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no-{name}")
        elif isinstance(value, list):
            words += [f"--{name}", *(str(item) for item in value)]
        elif not isinstance(value, dict):
            words += [f"--{name}", str(value)]
    return shlex.join([*words, "--seed", str(record.get("seed") or 0)])
