"""What all tests share: one thread, no network, small models of every mechanism."""

import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

import logging
from collections.abc import Iterator

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _quiet_again() -> Iterator[None]:
    """A command makes the package's log speak; the next test hears what a program would."""
    yield
    logging.getLogger("longread").setLevel(logging.NOTSET)
