"""make gpu-check and make scale-check: what they do where they cannot be run whole."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT)]

from stress import gpu, scale  # noqa: E402


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_card_it_is_said_and_nothing_passes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    assert gpu.main() == 2
    told = capsys.readouterr()
    assert "sees no CUDA device here. Nothing was checked." in told.err and "passed" not in told.out


def test_the_checks_of_a_device_hold_on_the_processor_and_see_a_wrong_mechanism(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu.py", "contract", "--device", "cpu"])
    assert gpu.main() == 0, capsys.readouterr().out
    monkeypatch.setattr("longread.ops.packed.Group.key_bias", lambda self, dtype: None)
    assert gpu.main() == 1
    assert "FAILED  contract: AssertionError: dense" in capsys.readouterr().out


def test_a_check_that_does_not_hold_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scale, "CHECKS", [scale.Check("one", "nothing", lambda place: scale.Found(False, {}))])
    monkeypatch.setattr(sys, "argv", ["scale.py", "--no-record"])
    assert scale.main() == 1
    assert "DOES NOT HOLD" in capsys.readouterr().out


def test_a_check_that_needs_what_is_not_there_counts_as_not_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def never(place: Path) -> scale.Found:
        raise AssertionError

    checks = [scale.Check("one", "a thing", lambda place: scale.Found(True, {})),
              scale.Check("two", "another", never, needs="no_such_package")]  # fmt: skip
    monkeypatch.setattr(scale, "CHECKS", checks)
    monkeypatch.setattr(sys, "argv", ["scale.py", "--no-record"])
    assert scale.main() == 0
    told = capsys.readouterr().out
    assert "left out: no_such_package is not installed" in told and "1 held, 0 not held, 1 not run" in told
