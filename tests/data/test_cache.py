"""What is kept between runs is believed only where it is whole."""

from __future__ import annotations

import errno
import logging
from pathlib import Path

import numpy as np
import pytest

from longread.data import cache
from longread.data.config import DataConfig
from longread.data.dataset import prepare


def test_no_damage_is_believed_and_none_blocks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Cut short anywhere, and one bit turned anywhere: the same tokens every time, and a line that says so."""
    config = DataConfig("reviews:128", train_rows=8, eval_rows=4, vocab_size=270, cache=tmp_path)
    first = prepare(config, 64)
    again = prepare(config, 64)
    assert again.train.encoded.tokens.tolist() == first.train.encoded.tokens.tolist()
    assert again.fingerprints == first.fingerprints
    files = sorted(tmp_path.iterdir())
    assert [path.name.split("-")[0] for path in files] == ["tokenizer", "tokens", "tokens"]
    generator = np.random.default_rng(0)
    caplog.set_level(logging.WARNING)
    for path in files:
        whole = path.read_bytes()
        for number in range(8):
            place = int(generator.integers(len(whole)))
            turned = bytearray(whole)
            turned[place] ^= 1 << number
            path.write_bytes(bytes(turned) if number % 2 else whole[:place])
            caplog.clear()
            found = prepare(config, 64)
            assert found.fingerprints == first.fingerprints
            assert found.train.encoded.tokens.tolist() == first.train.encoded.tokens.tolist()
            assert f"{path}: damaged; made anew" in caplog.text
            assert path.read_bytes() == whole


def test_a_full_disk_costs_the_cache_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache, "write_atomically", full)
    assert len(prepare(DataConfig("reviews:128", train_rows=8, eval_rows=4, vocab_size=270, cache=tmp_path), 64).train)
    assert "cannot be kept (No space left on device)" in caplog.text
