"""One answer to where a model computes, and how precisely."""

from __future__ import annotations

import pytest
import torch

from longread.errors import UserError
from longread.system import runtime


@pytest.mark.parametrize(
    ("name", "gpus", "found"),
    [
        ("auto", 0, "cpu"),
        ("auto", 2, "cuda"),
        ("cuda:1", 2, "cuda:1"),
        ("mps", 0, "torch sees no Apple GPU"),
        ("cuda", 0, "torch sees no CUDA device here"),
        ("cuda:2", 2, "torch sees 2 here, counted from cuda:0"),
        ("cuda:x", 2, "give auto, cpu, cuda, cuda:N or mps"),
        ("gpu", 2, "give auto, cpu, cuda, cuda:N or mps"),
    ],
)
def test_a_device_is_there_or_it_is_said(monkeypatch: pytest.MonkeyPatch, name: str, gpus: int, found: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    if " " not in found:
        assert str(runtime.pick_device(name)) == found
        return
    with pytest.raises(UserError, match=found):
        runtime.pick_device(name)


def test_narrow_models_stay_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(runtime, "has_fast_bfloat16", lambda device: True)
    found = [runtime.pick_precision(given, cpu, width) for given in ("auto", "bfloat16") for width in (64, 768)]
    assert found == ["float32", "bfloat16", "bfloat16", "bfloat16"]
