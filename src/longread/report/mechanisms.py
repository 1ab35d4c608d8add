"""How a mechanism is named and drawn: as its runs' records say, which have it from the mechanism's class.

Listed here are the linear baselines, and the mechanisms of records that were written before records said it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from longread.config import BASELINES

if TYPE_CHECKING:
    from longread.records import Run


@dataclass(frozen=True)
class Look:
    """`short` is the name where room is scarce; `color` is "#rrggbb"; `marker` is matplotlib's."""

    title: str
    color: str
    marker: str = "h"
    short: str = ""


# Okabe and Ito's palette, told apart with any kind of colour vision; the linear models are neutral.
LOOKS = {
    "dense": Look("Dense", "#3a3f47", "o"),
    "longformer": Look("Longformer", "#0072b2", "s"),
    "bigbird": Look("BigBird", "#d55e00", "^"),
    "performer": Look("Performer", "#009e73", "D"),
    "linformer": Look("Linformer", "#b8578f", "v"),
    "majority": Look("Majority class", "#a4a9b0", "_"),
    "tfidf": Look("TF-IDF + logistic regression", "#8a7340", "P", short="TF-IDF"),
    "nbsvm": Look("NB-SVM", "#a08f68", "X"),
}
LISTED = tuple(LOOKS)  # style.css has a light and a dark colour for each
# Options that a mechanism got later: a model that has the first had this value of the others before there were any.
LATER_OPTIONS: dict[str, dict[str, object]] = {"projection_size": {"projection_rate": 1.0}}
OTHER_COLORS = ("#56b4e9", "#e69f00", "#7f3c8d", "#4b8a08", "#a5312a")


def learn(runs: Iterable[Run]) -> None:
    """Names and colours of mechanisms that are not listed here, from the records of their runs."""
    for run in runs:
        name, said = str(run.record.get("attention")), run.record.get("mechanism")
        if name in LISTED or not isinstance(said, dict):
            continue
        color = str(said.get("color"))
        color = color if re.fullmatch("#[0-9a-f]{6}", color) else _other_color(name)
        LOOKS[name] = Look(str(said.get("title") or name), color)


def later_options(encoder: Mapping[str, object]) -> dict[str, object]:
    """Options that a record of this model need not name, at the values that they then have."""
    return {k: v for name, later in LATER_OPTIONS.items() if name in encoder for k, v in later.items()}


# What a linear row is called where a number is predicted.
OF_NUMBERS = {"tfidf": "TF-IDF + ridge regression", "majority": "Mean of the numbers"}


def title_of(attention: str, short: bool = False) -> str:
    look = LOOKS.get(attention)
    return attention if look is None else (look.short if short and look.short else look.title)


def color_of(attention: str) -> str:
    return LOOKS[attention].color if attention in LOOKS else _other_color(attention)


def marker_of(attention: str) -> str:
    return LOOKS[attention].marker if attention in LOOKS else "h"


def rank(attention: str) -> tuple[bool, int, str]:
    """Sorts mechanisms in the order of the list, others behind them by name, the baselines last."""
    return (attention in BASELINES, LISTED.index(attention) if attention in LISTED else len(LISTED), attention)


def _other_color(attention: str) -> str:
    return OTHER_COLORS[sum(attention.encode()) % len(OTHER_COLORS)]
