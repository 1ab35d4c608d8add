"""Generated reviews as in reviews_length.py, with a second layer: is it the one layer that keeps sparse attention back?

Run:     python experiments/run.py reviews_two_layers --data-dir DIR
Expect:  Longformer and BigBird beyond counting words if what their global tokens find needs a second layer to reach the
         others; as before if it is something else. About 10 minutes a mechanism on one core; up to 2,048 tokens.
"""

from __future__ import annotations

from experiments.reviews_length import LONGEST_DENSE, MECHANISMS, ladder, run
from longread.config import RunConfig

__all__ = ["configs", "run"]


def configs() -> list[RunConfig]:
    return [
        config for name in MECHANISMS for config in ladder(name, layers=2) if (config.max_length or 0) <= LONGEST_DENSE
    ]
