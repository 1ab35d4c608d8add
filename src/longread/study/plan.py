"""What a plan of runs within a time is made of, and how it is said."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from longread.config import RunConfig
from longread.errors import UserError
from longread.problems import ProblemType

LENGTHS = (128, 256, 512, 1024, 2048, 4096)
FOR_THE_REPORT = 0.05  # of the time, and at least so many seconds
REPORT_SECONDS = 6.0
UNITS = {"h": 3600, "m": 60, "s": 1}


def seconds_of(text: str) -> float:
    """Of "90s", "20m", "1h30m". UserError for anything else."""
    if not re.fullmatch(r"(\d+h)?(\d+m)?(\d+s)?", text) or not text:
        raise UserError(f"--budget {text}: give a time with its unit, such as 90s, 20m or 1h30m")
    found = sum(int(number) * UNITS[unit] for number, unit in re.findall(r"(\d+)([hms])", text))
    if not found:
        raise UserError(f"--budget {text}: give a time above 0")
    return float(found)


def report_seconds(budget: float) -> float:
    """What is kept for the report."""
    return max(REPORT_SECONDS, FOR_THE_REPORT * budget)


@dataclass(frozen=True)
class Cost:
    """Seconds of a run: before its first step, of a pass over the training rows, of answering the evaluation rows.

    dense: on these texts the mechanism is full attention.
    """

    begin: float
    epoch: float = 0.0
    evaluation: float = 0.0
    dense: bool = False

    def of(self, epochs: int) -> float:
        return self.begin + epochs * (self.epoch + self.evaluation)


@dataclass(frozen=True)
class Texts:
    """The training rows: how many, and the tokens of a sample of them, uncut. longest: that the model can read."""

    rows: int
    lengths: npt.NDArray[np.int64]
    problem_type: ProblemType
    longest: int = LENGTHS[-1]


@dataclass(frozen=True)
class Entry:
    """A run of a plan, and the seconds that it is expected to take."""

    config: RunConfig
    seconds: float


@dataclass
class Plan:
    """Runs in their order, and what there was no time or no use for: (what, why). spare: runs for which there may be
    time in the end."""

    entries: list[Entry] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    spare: list[Entry] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return sum(entry.seconds for entry in self.entries)


def described(config: RunConfig, *, brief: bool = False) -> str:
    """longformer, 2 x 128, 1,024 tokens, 10 epochs; a linear model is its name. brief: without tokens and epochs.

    What is not set (a checkpoint's own length, the epochs of a distillation) is left out.
    """
    if config.is_baseline:
        return config.attention
    shape = "" if config.init != "scratch" else f", {config.num_hidden_layers} x {config.hidden_size}"
    seed = f", seed {config.seed}" if config.seed else ""
    length = f", {config.max_length:,} tokens" if config.max_length and not brief else ""
    length += f", {config.epochs} epochs" if config.epochs and not brief else ""
    return f"{config.attention}{shape}{length}{seed}"


def duration(seconds: float) -> str:
    """12 s, 3:05, 1:02:03."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def no_time(need: float, left: float) -> str:
    """Why a run, or several, of `need` seconds are left out where so many are left."""
    return f"would take about {duration(max(0.0, need))}; {duration(max(0.0, left))} left"
