"""Where weights come from: a checkpoint of ours names the run that wrote it, and that run's own ancestors."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from longread.errors import UserError
from longread.models.locate import locate
from longread.models.weights import RUN
from longread.records import Ancestor, write_json
from longread.records.record import KINDS, Kind


@dataclass(frozen=True)
class Provenance:
    """The run that wrote a checkpoint, with its training seconds and the runs that it rests on itself."""

    run_id: str
    kind: Kind
    seconds: float
    lineage: tuple[Ancestor, ...] = ()

    def write(self, checkpoint: Path) -> None:
        write_json(checkpoint / RUN, asdict(self))

    def as_parent(self) -> tuple[Ancestor, ...]:
        """The lineage of a run that begins from this checkpoint's weights, nearest first."""
        return (self._ancestor("distillation" if self.kind == "distill" else "init"), *self.lineage)

    def as_teacher(self) -> tuple[Ancestor, ...]:
        """The lineage of a distillation from this checkpoint, which its weights also began from."""
        return (self._ancestor("teacher"), *self.lineage)

    def _ancestor(self, role: str) -> Ancestor:
        return Ancestor(role=role, run_id=self.run_id, kind=self.kind, seconds=self.seconds)  # type: ignore[arg-type]


def provenance_of(init: str) -> Provenance | None:
    """None for a checkpoint that no run of ours wrote. UserError for a file that says something else."""
    path = locate(init) / RUN
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text())
        for one in (values, *values["lineage"]):
            if one["kind"] not in KINDS:
                raise ValueError(f"kind is {one['kind']!r}")
            one["seconds"] = float(one["seconds"])
        values["lineage"] = tuple(Ancestor(**ancestor) for ancestor in values["lineage"])
        return Provenance(**values)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path}: not what a run writes beside its checkpoint ({error}); delete it") from error
