"""One answer to where a model computes, and how precisely."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
import torch

from longread.errors import UserError
from longread.system import memory, runtime


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


def test_the_token_budget_is_less_where_there_is_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def budget(gigabytes: float, width: int = 768, depth: int = 12) -> int:
        monkeypatch.setattr(runtime, "memory_bytes", lambda device: int(gigabytes * 2**30))
        return runtime.tokens_for(torch.device("cpu"), width, depth)

    assert [budget(24), budget(4), budget(1), budget(1, depth=1)] == [2048, 512, 128, 2048]
    assert budget(1e-6) == 1
    assert budget(2, width=64, depth=2) == 4096


@pytest.mark.parametrize(
    ("own", "files", "limit"),
    [
        ("0::/a/b\n", {"a/memory.max": "3000000\n", "a/b/memory.max": "max\n"}, 3_000_000),
        ("0::/a/b\n", {"memory.max": "max\n"}, None),
        ("0::/gone/from/here\n", {"memory.max": "2000000\n"}, 2_000_000),
        ("4:memory:/x\n0::/\n", {"memory/x/memory.limit_in_bytes": "1000000\n"}, 1_000_000),
        ("4:cpu,memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, None),
        ("3:cpuset:/x\n", {"memory/x/memory.limit_in_bytes": "1000000\n"}, None),
    ],
)
def test_a_limit_of_a_container_is_the_memory_there_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own: str, files: dict[str, str], limit: int | None
) -> None:
    (tmp_path / "own").write_text(own)
    for name, content in files.items():
        (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / name).write_text(content)
    monkeypatch.setattr(memory, "OWN_CGROUPS", tmp_path / "own")
    monkeypatch.setattr(memory, "CGROUPS", tmp_path / "groups")
    whole = psutil.virtual_memory().total
    assert memory.memory_bytes(torch.device("cpu")) == (whole if limit is None else limit)
