"""What all tests share: one thread, no network, small models of every mechanism."""

import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

import logging
from collections.abc import Iterator

import hypothesis
import psutil
import pytest
import torch

torch.set_num_threads(1)
# The same cases in every run; a busy machine is no failure.
hypothesis.settings.register_profile("same", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("same")


@pytest.fixture(autouse=True)
def _no_other_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each run looks twice for 0.4 s at what other programs do: minutes of the suite, and no result depends on it."""
    monkeypatch.setattr(psutil, "cpu_percent", lambda interval: 0.0)


@pytest.fixture(autouse=True)
def _quiet_again() -> Iterator[None]:
    """A command makes the package's log speak; the next test hears what a program would."""
    yield
    logging.getLogger("longread").setLevel(logging.NOTSET)
