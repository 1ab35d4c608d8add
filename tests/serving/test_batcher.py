"""The batcher alone: every request gets its own answer, whatever its company."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import numpy as np
import pytest

from longread.serving.batcher import Answer, Batcher, Closed, Overloaded, Tokens


class Counting:
    """A model that answers with each sequence's sum and length; sequences that hold 666 break it."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, batch: Sequence[Tokens]) -> np.ndarray:
        ids = [one.ids for one in batch]
        self.gate.wait()
        self.batches.append([len(row) for row in ids])
        if any(666 in row for row in ids):
            raise ValueError("a bad sequence")
        return np.array([[row.sum(), len(row)] for row in ids], dtype=np.float32)


def sequence(length: int, value: int = 1) -> Tokens:
    return Tokens(np.full(length, value, dtype=np.int32))


def test_each_request_gets_its_own_answer_and_a_bad_one_breaks_no_other() -> None:
    model = Counting()
    batcher = Batcher(model, tokens_per_batch=100)

    async def ask() -> list[Answer | BaseException]:
        model.gate.clear()
        rows = [sequence(1 + n % 30, 666 if n % 7 == 3 else n) for n in range(40)]
        tasks = [asyncio.create_task(batcher.submit(row)) for row in rows]
        await asyncio.sleep(0.05)
        model.gate.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    found = asyncio.run(ask())
    batcher.close()
    for n, answer in enumerate(found):
        if n % 7 == 3:
            assert isinstance(answer, ValueError)
        else:
            assert isinstance(answer, Answer)
            assert answer.logits.tolist() == [n * (1 + n % 30), 1 + n % 30]
    packed = [batch for batch in model.batches if len(batch) > 1]
    assert packed, "nothing was batched"
    assert all(sum(batch) <= 100 and batch == sorted(batch) for batch in packed)


def test_short_sequences_do_not_wait_behind_long_ones() -> None:
    started, gate = threading.Event(), threading.Event()

    def model(batch: Sequence[Tokens]) -> np.ndarray:
        if len(batch[0]) > 512:
            started.set()
            gate.wait()
        return np.zeros((len(batch), 2), dtype=np.float32)

    batcher = Batcher(model)

    async def ask() -> None:
        long = asyncio.create_task(batcher.submit(sequence(4096)))
        await asyncio.to_thread(started.wait)
        await asyncio.wait_for(batcher.submit(sequence(5)), 5)
        assert not long.done()
        gate.set()
        await long

    asyncio.run(ask())
    batcher.close()


def test_limits_clients_that_left_and_closing() -> None:
    model = Counting()
    batcher = Batcher(model, max_waiting=3, tokens_per_batch=1000)

    async def ask() -> None:
        model.gate.clear()
        first = asyncio.create_task(batcher.submit(sequence(1000)))
        await asyncio.sleep(0.05)  # it is with the model
        waiting = [asyncio.create_task(batcher.submit(sequence(900, n))) for n in range(3)]
        await asyncio.sleep(0.05)
        with pytest.raises(Overloaded):
            await batcher.submit(sequence(1))
        waiting[1].cancel()
        await asyncio.sleep(0.05)
        model.gate.set()
        await first
        done = await asyncio.gather(*waiting, return_exceptions=True)
        assert [isinstance(answer, Answer) for answer in done] == [True, False, True]

    asyncio.run(ask())
    batcher.close()
    assert model.batches == [[1000], [900], [900]], "the client that left was computed for"
    with pytest.raises(Closed):
        asyncio.run(batcher.submit(sequence(1)))


def test_a_lane_without_work_helps_the_other_and_stays_free_of_what_takes_long() -> None:
    """Each batch of the model waits at a gate, so that what the other lane takes meanwhile is seen."""
    seen: list[tuple[str, list[int]]] = []
    gates = {"lane of 0": threading.Event(), "lane of 1": threading.Event()}
    lane = threading.local()

    def before(number: int, alone: bool) -> None:
        lane.name = f"lane of {number}"

    def model(batch: Sequence[Tokens]) -> np.ndarray:
        seen.append((lane.name, [len(one) for one in batch]))
        gates[lane.name].wait()
        return np.zeros((len(batch), 2), dtype=np.float32)

    batcher = Batcher(model, tokens_per_batch=1000, before_batch=before)

    async def ask() -> None:
        async def send(*lengths: int, batches: int) -> list[asyncio.Task[Answer]]:
            tasks = [asyncio.create_task(batcher.submit(sequence(length))) for length in lengths]
            await asyncio.sleep(0.02)
            await until(batches)
            return tasks

        async def until(batches: int) -> None:
            while len(seen) < batches:
                await asyncio.sleep(0.005)

        tasks = await send(4000, batches=1)  # the long lane is busy
        tasks += await send(300, 2000, batches=1)
        assert seen == [("lane of 1", [4000])], "two that wait are not worth a sentence's waiting"
        tasks += await send(200, batches=2)
        assert seen[1:] == [("lane of 0", [200, 300])], "the short lane helps, but not with 2,000 tokens"
        tasks += await send(5, batches=2)
        gates["lane of 1"].set()
        await until(4)
        assert sorted(seen[2:]) == [("lane of 1", [5]), ("lane of 1", [2000])], "the long lane helps, too"
        gates["lane of 0"].set()
        await asyncio.gather(*tasks)

    asyncio.run(asyncio.wait_for(ask(), 20))
    batcher.close()


class Gated:
    """A model that waits at a gate of each lane; `seen` has the batches in the order in which they began."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, bool, list[int]]] = []
        self.gates = (threading.Semaphore(0), threading.Semaphore(0))
        self._lane = threading.local()

    def before(self, lane: int, alone: bool) -> None:
        self._lane.told = lane, alone

    def __call__(self, batch: Sequence[Tokens]) -> np.ndarray:
        lane, alone = self._lane.told
        self.seen.append((lane, alone, [len(one) for one in batch]))
        self.gates[lane].acquire()
        return np.zeros((len(batch), 2), dtype=np.float32)

    async def begun(self, batches: int) -> None:
        while len(self.seen) < batches:
            await asyncio.sleep(0.002)


def test_what_has_waited_too_long_is_taken_as_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the longest one of those that have waited would wait for as long as shorter ones keep coming."""
    model = Gated()
    batcher = Batcher(model, tokens_per_batch=1000, before_batch=model.before)
    monkeypatch.setattr("longread.serving.batcher.OLDEST_SECONDS", 0.05)

    async def ask() -> None:
        first = [batcher.submit(sequence(5000)), batcher.submit(sequence(4))]
        tasks = [asyncio.create_task(one) for one in first]
        await model.begun(2)
        for length in (900, 600, 800, 700):
            tasks.append(asyncio.create_task(batcher.submit(sequence(length))))
            await asyncio.sleep(0)
        await asyncio.sleep(0.06)
        tasks.append(asyncio.create_task(batcher.submit(sequence(550))))
        await asyncio.sleep(0)
        model.gates[1].release(100)
        await asyncio.wait(tasks[2:])
        model.gates[0].release(100)
        await asyncio.gather(*tasks)

    asyncio.run(asyncio.wait_for(ask(), 20))
    batcher.close()
    assert [lengths for *_, lengths in model.seen[2:]] == [[900], [600], [800], [700], [550]]


@pytest.mark.parametrize("spare", [0.0, 60.0])
def test_a_document_that_has_waited_too_long_is_helped_before_sentences(
    spare: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless one of the sentences has waited for too long by itself."""
    model = Gated()
    batcher = Batcher(model, before_batch=model.before)
    monkeypatch.setattr("longread.serving.batcher.OLDEST_SECONDS", 0.0)
    monkeypatch.setattr("longread.serving.batcher.SPARE_SECONDS", spare)

    async def ask() -> None:
        tasks = [asyncio.create_task(batcher.submit(sequence(length))) for length in (4000, 5)]
        await model.begun(2)
        tasks += [asyncio.create_task(batcher.submit(sequence(length))) for length in (3000, 400, 6)]
        await asyncio.sleep(0.01)
        model.gates[0].release(1)
        await model.begun(3)
        for gate in model.gates:
            gate.release(100)
        await asyncio.gather(*tasks)

    asyncio.run(asyncio.wait_for(ask(), 20))
    batcher.close()
    assert model.seen[2][0] == 0
    assert model.seen[2][2] == ([400] if spare else [6])


def test_one_client_has_all_cores_whatever_it_sends_and_two_at_once_share_them() -> None:
    model = Gated()
    for gate in model.gates:
        gate.release(100)
    batcher = Batcher(model, before_batch=model.before)

    async def one_after_the_other() -> None:
        for length in (5, 300, 7, 2000, 9):
            await batcher.submit(sequence(length))

    async def at_once() -> None:
        await asyncio.gather(batcher.submit(sequence(300)), batcher.submit(sequence(5)))

    asyncio.run(one_after_the_other())
    assert [alone for _, alone, _ in model.seen] == [True] * 5
    asyncio.run(at_once())
    asyncio.run(one_after_the_other())
    batcher.close()
    assert not any(alone for _, alone, _ in model.seen[7:])
