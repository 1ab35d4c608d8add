"""Counters and histograms in Prometheus' format: one registry a service, added up over its workers."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
TOKENS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16_384)
# Where it is set when prometheus_client is loaded, every process keeps its values in files of that folder.
SHARED = "PROMETHEUS_MULTIPROC_DIR"


class Metrics:
    """What a service has done. `waiting` tells how many texts wait in this process."""

    def __init__(self, waiting: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        own: dict[str, Any] = {"registry": self.registry, "namespace": "longread"}
        self.requests = Counter("requests", "Requests by path and status.", ["path", "status"], **own)
        self.texts = Counter("texts", "Texts answered.", **own)
        self.total = Histogram("request_seconds", "From the body's arrival to the answer.", buckets=SECONDS, **own)
        self.tokenization = Histogram("tokenization_seconds", "Of one text.", buckets=SECONDS, **own)
        self.queue = Histogram("queue_seconds", "What a text waited for its batch.", buckets=SECONDS, **own)
        self.inference = Histogram("inference_seconds", "Of the batch that a text was in.", buckets=SECONDS, **own)
        self.tokens = Histogram("tokens", "Tokens of a text, as the model read it.", buckets=TOKENS, **own)
        self._gauge = Gauge("waiting", "Texts that wait for a batch.", multiprocess_mode="livesum", **own)
        self._waiting = waiting

    def refresh(self) -> None:
        """What the other workers are told of this one's queue."""
        self._gauge.set(self._waiting())

    def text(self) -> bytes:
        self.refresh()
        if SHARED not in os.environ:
            return generate_latest(self.registry)
        of_all = CollectorRegistry()
        MultiProcessCollector(of_all)  # type: ignore[no-untyped-call]
        return generate_latest(of_all)
