"""What several commands share: exit statuses and the options of a run."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from longread.config import RunConfig, Settings

WRONG_INPUT, FAILED, INTERRUPTED = 2, 1, 130
ALL = ["dense", "longformer", "bigbird", "performer", "linformer"]
Several = Parameter(consume_multiple=1)
Shared = Annotated[Settings, Parameter(name="*")]
DEFAULTS = Settings()


def run_config(settings: Settings) -> RunConfig:
    return RunConfig(**{name: getattr(settings, name) for name in Settings.__dataclass_fields__})
