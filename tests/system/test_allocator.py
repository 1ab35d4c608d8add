"""The allocator is changed where it is asked for, never by an import, and every record says which one ran."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from longread.system import allocator

WORDS = """
import sys
import longread
from longread.system.allocator import allocator
print(allocator())
assert "torch" not in sys.modules
longread.tune_allocator()
from longread.system.measure import environment
import torch
print(environment(torch.device("cpu"), "float32")["allocator"])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's alone")
def test_it_is_tuned_by_name_alone_and_the_record_says_so() -> None:
    plain = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_") and k != "LD_PRELOAD"}
    for added, rest in (({}, ""), ({"MALLOC_TRIM_THRESHOLD_": "1"}, ", MALLOC_TRIM_THRESHOLD_=1")):
        done = subprocess.run([sys.executable, "-c", WORDS], capture_output=True, text=True, env=plain | added)
        assert done.stdout.split("\n")[:2] == [f"default{rest}", f"tuned{rest}"], done.stderr


@pytest.mark.parametrize(
    ("machine", "precision", "kept"),
    [
        ("x86_64", "float32", "8"),
        ("x86_64", "bfloat16", "128"),
        ("x86_64", "auto", "128"),
        ("aarch64", "float32", "128"),
    ],
)
def test_little_is_kept_of_shapes_that_do_not_come_back(
    machine: str, precision: str, kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(allocator, "_chosen_here", False)
    monkeypatch.setattr(allocator, "_glibc", lambda: None)
    monkeypatch.setattr(allocator.platform, "machine", lambda: machine)
    allocator.tune_allocator(precision)
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == kept
    assert os.environ["LRU_CACHE_CAPACITY"] == "32", "of descriptions, whatever the precision"
    monkeypatch.setenv("LRU_CACHE_CAPACITY", "7")
    allocator.tune_allocator(precision)
    assert os.environ["LRU_CACHE_CAPACITY"] == "7", "somebody else has chosen"


def test_training_in_float32_keeps_what_its_gradients_need_unless_somebody_else_has_chosen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(allocator, "_glibc", lambda: None)
    monkeypatch.setattr(allocator.platform, "machine", lambda: "x86_64")
    monkeypatch.setenv(allocator.DESCRIPTIONS, "32")
    plain = ("float32", "float32")
    for given, precisions, kept in (
        (None, plain, "32"), (None, ("bfloat16", "float32"), "128"), (None, ("float32", "bfloat16"), "128"),
        ("7", plain, "7"),
    ):  # fmt: skip
        monkeypatch.setattr(allocator, "_chosen_here", False)
        monkeypatch.setenv(allocator.CAPACITY, given or "")
        if given is None:
            monkeypatch.delenv(allocator.CAPACITY)
        allocator.tune_for_training(*precisions)
        assert os.environ.get(allocator.CAPACITY) == given, "nobody asked for a tuned process"
        allocator.tune_allocator()
        allocator.tune_for_training(*precisions)
        assert os.environ[allocator.CAPACITY] == kept
