"""What a report compares: one group a task and set of rows, one line a configuration, its seeds together."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from longread.config import BASELINES
from longread.problems import MULTI_LABEL, REGRESSION, SINGLE_LABEL, ProblemType, problem_of
from longread.report.lineage import draws
from longread.report.mechanisms import OF_NUMBERS, title_of
from longread.report.statistics import Interval, mean_interval

if TYPE_CHECKING:
    import numpy as np

    from longread.records import Run


def title_of_run(record: Mapping[str, Any], short: bool = False) -> str:
    """Its mechanism's title, or what its linear model is called where a number is predicted."""
    attention = str(record.get("attention"))
    own = OF_NUMBERS.get(attention) if problem_of(record) == REGRESSION else None
    return own or title_of(attention, short)


@dataclass(frozen=True)
class Outcome:
    """One run that ended well; `correct` [R] and `rows` [R] are sorted by row, None without predictions.

    `ancestry`: the trained runs behind its first weights, with their seconds (report/lineage.py).
    """

    run: Run
    accuracy: float  # share of the rows with the right class, or with all labels right; of a regression R²
    evaluated: int
    rows: np.ndarray | None
    correct: np.ndarray | None
    loaded: bool
    ancestry: Mapping[str, float | None] = field(default_factory=dict)
    loaded_before: bool = False  # the machine had other work during a run of the ancestry

    @property
    def chance(self) -> set[str]:
        """Names of everything random that its accuracy rests on: its own training, and what came before."""
        return {f"run {self.run.record.get('run_id')}", *self.ancestry}


@dataclass
class Line:
    """All seeds of one configuration."""

    attention: str
    settings: dict[str, Any]  # only the fields that vary in the group, in a fixed order
    outcomes: list[Outcome] = field(default_factory=list)
    failures: list[Run] = field(default_factory=list)
    only_mechanism: bool = False  # of its group: figures need not repeat the name
    apart: dict[str, Any] = field(default_factory=dict)  # of the settings, what tells it from lines of its attention

    @property
    def runs(self) -> list[Run]:
        return [*(o.run for o in self.outcomes), *self.failures]

    @property
    def is_baseline(self) -> bool:
        return self.attention in BASELINES

    @property
    def quiet(self) -> list[Outcome]:
        """The runs whose times may be quoted, or all of them where the machine was never idle."""
        return [o for o in self.outcomes if not o.loaded] or self.outcomes

    @property
    def timed_under_load(self) -> bool:
        return bool(self.outcomes) and all(o.loaded for o in self.outcomes)

    @property
    def trained_under_load(self) -> bool:
        """The same of training with all that came before it."""
        return self.timed_under_load or any(o.loaded_before for o in self.quiet)

    @property
    def evaluated(self) -> int:
        return min(o.evaluated for o in self.outcomes)

    @property
    def draws(self) -> list[int]:
        """Which independent draw each outcome belongs to."""
        return draws([o.chance for o in self.outcomes])

    @property
    def accuracy(self) -> tuple[float, Interval]:
        """Mean accuracy of the runs, and its 95 % interval over rows and draws."""
        return mean_interval([o.accuracy for o in self.outcomes], self.evaluated, self.draws)

    def title(self, short: bool = False) -> str:
        return title_of_run(self.runs[0].record, short)

    def name(self) -> str:
        """`Longformer (2 layers)`: what tells it from other rows of its attention, and no more."""
        apart = ", ".join(setting_text(k, v) for k, v in self.apart.items())
        return f"{self.title()} ({apart})" if apart else self.title()

    def label(self) -> str:
        """`Longformer, 2 layers`: the same for the corner of a figure or the head of a column."""
        apart = [setting_text(k, v) for k, v in self.apart.items()]
        return ", ".join(apart if self.only_mechanism and apart else [self.title(short=True), *apart])

    def variant(self) -> str:
        """What sets this line apart from others with the same mechanism; empty where nothing does."""
        return ", ".join(setting_text(k, v) for k, v in self.settings.items())


@dataclass
class Group:
    """Everything that was evaluated on the same rows of one task."""

    task: str
    key: str  # for file names and anchors
    title: str
    lines: list[Line]
    fields: tuple[str, ...]  # the config fields that vary

    @property
    def problem_type(self) -> ProblemType:
        return next((problem_of(run.record) for run in self.runs), SINGLE_LABEL)

    @property
    def measure(self) -> str:
        """What a row's share of right answers is called."""
        return "exact match" if self.problem_type == MULTI_LABEL else "accuracy"

    @property
    def runs(self) -> list[Run]:
        return [run for line in self.lines for run in line.runs]

    @property
    def done(self) -> list[Line]:
        return [line for line in self.lines if line.outcomes]


def setting_text(name: str, value: Any) -> str:
    """A setting as a reader says it: `2 layers`, `learning rate 0.0003`."""
    if name == "num_hidden_layers":
        return f"{value} layer{'' if value == 1 else 's'}"
    if name == "init":
        return "from scratch" if value == "scratch" else f"from {'/'.join(str(value).strip('/').split('/')[-2:])}"
    if name == "kind":
        return "trained" if value == "train" else "evaluated only"
    if name == "device":
        return f"on {value}"
    return f"{name.replace('_', ' ')} {value_text(value)}"


def value_text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str | int):
        return str(value)
    if isinstance(value, float):
        return f"{value:g}"
    return json.dumps(value, sort_keys=True)
