"""The table of `benchmarks/serving.py`, from its records in results/serving/ alone."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

ATTENTIONS, CLIENTS = ("dense", "longformer"), (1, 8, 32)
TITLES = {"ours": "`longread serve`", "ours-bfloat16": "the same, `--precision bfloat16`",
          "ours-int8": "the same, `--precision int8`", "plain": "plain",
          "litserve": "LitServe"}  # fmt: skip
MOST = CLIENTS[-1]
BUSY_CORES = 0.25  # as benchmarks/table.py: a time beside other work is quoted nowhere


class Load:
    """A record: what each side did under each number of clients."""

    def __init__(self, record: dict[str, Any]) -> None:
        self.attention: str = record["attention"]
        self.machine: dict[str, Any] = record["environment"]
        self.busy = max(self.machine["load_at_start"], self.machine["load_at_end"]) > BUSY_CORES
        self._record, self._found = record, record["found"]
        self.sides = [side for side in TITLES if any(one["side"] == side for one in self._found)]

    def rates(self, side: str, clients: int) -> list[float]:
        """Requests a second, turn by turn."""
        return [one["requests"] / one["seconds"] for one in self._of(side, clients)]

    def times(self, side: str, clients: int = MOST) -> float:
        """Of the plain service's rate, the median over the turns."""
        pairs = zip(self.rates(side, clients), self.rates("plain", clients), strict=True)
        return median(own / plain for own, plain in pairs)

    def errors(self, side: str) -> int:
        return sum(one["errors"] for one in self._found if one["side"] == side and "errors" in one)

    def quantile(self, side: str, share: float, clients: int = MOST) -> float:
        """Seconds, over all turns."""
        return percentile([value for one in self._of(side, clients) for value in one["latencies"]], share)

    def sentence(self, side: str) -> tuple[float, float, float] | None:
        """p95 in seconds of a sentence alone and beside documents, and documents a second meanwhile."""
        for one in self._found:
            if one["side"] == side and "beside_documents" in one:
                pair = one["beside_documents"]
                alone, together = (percentile(pair[name]["latencies"], 0.95) for name in ("alone", "together"))
                return alone, together, pair["documents"]["requests"] / pair["documents"]["seconds"]
        return None

    def difference(self, side: str) -> float:
        """The largest, of probabilities, from the plain service's."""
        return float(self._record["largest_difference"][side])

    def most(self, precision: str) -> float:
        """Requests a second if nothing but the model's products of matrices took time, at their measured rate."""
        return self._record["matmul_rate"][precision] / self._record["operations_per_request"]

    def _of(self, side: str, clients: int) -> list[dict[str, Any]]:
        return [one for one in self._found if one["side"] == side and one.get("clients") == clients]


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def read_loads(folder: Path) -> list[Load]:
    paths = [folder / f"{attention}.json" for attention in ATTENTIONS]
    return [Load(json.loads(path.read_text("utf-8"))) for path in paths if path.exists()]
