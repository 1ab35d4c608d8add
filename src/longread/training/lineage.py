"""Where weights come from: a checkpoint of ours names the run that wrote it, and that run's own ancestors."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from longread.config import RunConfig
from longread.data.digests import ReadFile
from longread.data.load import is_held_out
from longread.errors import UserError
from longread.inference.origin import Origin, origin_of
from longread.models.locate import locate
from longread.models.weights import RUN
from longread.records import Ancestor, RunRecord, write_json
from longread.records.record import KINDS, Kind


@dataclass(frozen=True)
class Provenance:
    """The run that wrote a checkpoint, its training seconds, the runs that it rests on itself, and the rows of all."""

    run_id: str
    kind: Kind
    seconds: float
    lineage: tuple[Ancestor, ...] = ()
    trained_on: Origin | None = None

    def write(self, checkpoint: Path) -> None:
        told = {"run_id": self.run_id, "kind": self.kind, "seconds": self.seconds}
        told["lineage"] = [asdict(ancestor) for ancestor in self.lineage]
        write_json(checkpoint / RUN, told | ({"trained_on": self.trained_on.to_json()} if self.trained_on else {}))

    def trainings(self) -> tuple[Origin, ...]:
        """What the weights have learned from, nearest first; not the texts of a pretraining, which had no labels."""
        if self.trained_on is None:
            return ()
        own = () if self.kind == "pretrain" else (replace(self.trained_on, earlier=()),)
        return (*own, *self.trained_on.earlier)

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
        return Provenance(**values | {"trained_on": origin_of(path.parent)})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path}: not what a run writes beside its checkpoint ({error}); delete it") from error


def trained_on_rows(
    record: RunRecord, config: RunConfig, sources: tuple[ReadFile, ...], earlier: tuple[Origin, ...] = ()
) -> Origin:
    """What a training's checkpoint has to tell of its rows. sources: the files of its training rows."""
    digests = [file.digest for file in sources]
    known = tuple(digest for digest in digests if digest is not None)
    return replace(
        Origin.of_record(record.to_json()),
        files=known if len(known) == len(digests) else (),
        held_out=not sources or is_held_out(config.data_config()),
        earlier=earlier,
    )
