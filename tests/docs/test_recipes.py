"""The recipes for Slurm: the array as its shell runs it, one of its tasks, and submitit's where that is installed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pages import ROOT, blocks
from test_blocks import TEXTS, TINY

from longread.cli import main as cli
from longread.records import load_runs

PAGE = ROOT / "docs" / "howto" / "scale.md"


def write_mail(place: Path) -> None:
    lines = [f"{texts[n % 4]} {n},{label}" for n in range(15) for label, texts in TEXTS.items()]
    (place / "mail.csv").write_text("\n".join(["text,label", *lines]))


def test_each_task_of_the_array_is_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (script,) = (block.text for block in blocks(PAGE) if block.language == "bash")
    (tmp_path / "longread").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "longread").chmod(0o755)
    first, last = map(int, re.findall(r"--array=(\d+)-(\d+)", script)[0])
    told = []
    for task in range(first, last + 1):
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_ARRAY_TASK_ID": str(task)}
        environment["SLURM_CPUS_PER_TASK"] = "1"
        done = subprocess.run(
            ["bash", "-eu", "-c", script],
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        told.append(done.stdout.splitlines())
    assert len({tuple(words) for words in told}) == 6
    write_mail(tmp_path)
    monkeypatch.chdir(tmp_path)
    more = [word for pair in TINY.items() if pair[0] not in told[4] for word in pair]
    assert cli.main([*told[4], *more, "--epochs", "1"]) == 0
    (run,) = load_runs(Path("shared"))
    assert (run.record["attention"], run.record["seed"]) == ("longformer", 1)


@pytest.mark.slow
def test_submitit_runs_each_configuration(tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed")
    (code,) = (block.text for block in blocks(PAGE) if "submitit" in block.text)
    tiny = "epochs=1, hidden_size=16, num_attention_heads=2, vocab_size=300, "
    code = code.replace("threads=4, ", f"threads=1, {tiny}")
    code = code.replace('folder="shared/jobs"', 'folder="shared/jobs", cluster="local"')
    code = code.replace("cpus_per_task=4, mem_gb=8", "cpus_per_task=1").replace("seed in (0, 1)", "seed in (0,)")
    write_mail(tmp_path)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(["ok"] * 3)
