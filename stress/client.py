"""A hostile client of `longread serve`: a real process of a tiny model, asked by eight threads at once.

Between well-formed requests, whose answers are compared with the predictor's, come bodies, headers and connections that
are wrong in every way. None may be answered with 500 or not at all while the client listens. The last cases look at
the whole: it answers right, its log has no traceback and no text, it holds no more memory, it drains and ends with 0.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stress.hostile import KINDS, LIMITS, SECRET, Request, texts
from stress.parts import Case, Part
from stress.talk import talk

SEED = 23
CLIENTS = 8
GOOD_SHARE = 0.25
WAIT_SECONDS = 60.0  # on a machine that has other things to do
CLOSE = 1e-5
GROWTH_BYTES = 300 * 2**20
SHAPE = {"attention_window": 8, "max_length": 512}


def make_model(folder: Path) -> Path:
    from checkpoints import save_with_tokenizer  # of the tests

    return save_with_tokenizer(folder, "longformer", SHAPE, texts(200), label_names=("bad", "<b>good"))


class Service:
    """The process, its port once it is ready, and its log."""

    def __init__(self, checkpoint: Path, log: Path) -> None:
        self.log = log
        order = [sys.executable, "-m", "longread", "serve", str(checkpoint), "--port", "0", "--threads", "1", *LIMITS]
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                order, stderr=file, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
            )
        end = time.monotonic() + WAIT_SECONDS
        while not (found := re.search(r"http://127.0.0.1:(\d+)", log.read_text("utf-8"))):
            assert self.process.poll() is None and time.monotonic() < end, log.read_text("utf-8")
            time.sleep(0.05)
        self.port = int(found[1])

    def memory(self) -> int:
        import psutil

        return int(psutil.Process(self.process.pid).memory_info().rss)


@dataclass
class Known:
    """Texts with the predictor's answers."""

    texts: list[str]
    answers: list[Any]

    @classmethod
    def of(cls, checkpoint: Path) -> Known:
        import longread

        known = [text for text in texts(64) if text.strip()]
        return cls(known, longread.load(checkpoint).predict(known))

    def request(self, rng: random.Random) -> tuple[bytes, list[int], bool]:
        """A body, the numbers of its texts, and whether it is a list."""
        chosen = [rng.randrange(len(self.texts)) for _ in range(rng.choice((1, 1, 1, 2, 5)))]
        several = len(chosen) > 1 or rng.random() < 0.3
        shaped = [rng.choice((self.texts[n], {"text": self.texts[n]})) for n in chosen]
        return json.dumps({"inputs": shaped if several else shaped[0]}).encode(), chosen, several

    def fault(self, body: bytes, chosen: list[int], several: bool) -> str:
        """What is wrong with the answers, or nothing."""
        found = json.loads(body)
        answers = found if several else [found]
        if len(answers) != len(chosen):
            return f"{len(answers)} answers to {len(chosen)} texts"
        for number, answer in zip(chosen, answers, strict=True):
            own = self.answers[number]
            apart = max(abs(answer["probabilities"][name] - p) for name, p in own.probabilities.items())
            if apart > CLOSE or answer["label"] != own.label:
                return f"text {number}: {answer} in place of {own}"
        return ""


def well_formed(port: int, known: Known, rng: random.Random) -> Case:
    body, chosen, several = known.request(rng)
    head = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(
        body
    )
    answers, ended = talk(port, [head + body], 1, WAIT_SECONDS)
    if not answers:
        return Case("well-formed", False, "no answer", ended)
    status, content = answers[0]
    if status != 200:
        return Case("well-formed", False, f"answered {status}", content.decode(errors="replace")[:300])
    fault = known.fault(content, chosen, several)
    return Case("well-formed", not fault, "wrong answer" if fault else "answered right", fault)


def hostile(port: int, number: int, rng: random.Random) -> Case:
    kind = list(KINDS)[number % len(KINDS)]
    request: Request = KINDS[kind](rng)
    answers, ended = talk(
        port, request.pieces, request.answers, WAIT_SECONDS, half_close=request.half_close, leave=request.leaves
    )
    for status, content in answers:
        if status >= 500 or (request.expected and status not in request.expected):
            return Case(kind, False, f"answered {status}", f"{request.name}: {content[:300]!r}")
        if status >= 400 and not _is_error(content):
            return Case(kind, False, "another shape of error", f"{request.name}: {content[:300]!r}")
    if request.leaves:
        return Case(kind, True, "client left")
    if not answers:
        held = request.may_be_closed and ended == "closed"
        return Case(kind, held, "connection closed" if held else "no answer", f"{request.name}: {ended}")
    return Case(kind, True, "refused" if answers[0][0] >= 400 else "answered")


def _is_error(content: bytes) -> bool:
    try:
        body = json.loads(content)
    except ValueError:
        return False
    return set(body) == {"error"} and isinstance(body["error"], str) and "\n" not in body["error"]


def at_the_end(service: Service, known: Known, memory: int) -> Iterator[Case]:
    rng = random.Random(SEED)
    last = [well_formed(service.port, known, rng) for _ in range(40)]
    yield next((case for case in last if not case.held), Case("answers at the end", True, "answered right"))
    grown = service.memory() - memory
    yield Case("memory at the end", grown < GROWTH_BYTES, "memory as before", f"{grown / 2**20:.0f} MiB more")
    with ThreadPoolExecutor(CLIENTS) as clients:  # what was taken before the signal is answered
        asked = [clients.submit(well_formed, service.port, known, random.Random(n)) for n in range(CLIENTS)]
        time.sleep(0.02)
        service.process.send_signal(signal.SIGTERM)
        drained = [one.result() for one in asked]
    wrong = [c for c in drained if not c.held and c.outcome not in ("answered 503", "no answer")]
    try:
        code: int | str = service.process.wait(WAIT_SECONDS)
    except subprocess.TimeoutExpired:
        service.process.kill()
        code = "none: it hangs"
    yield Case("its end", code == 0 and not wrong, "drained, exit status 0", f"status {code}; {wrong[:1]}")
    log = service.log.read_text("utf-8", "replace")
    told = next((line for line in log.splitlines() if "Traceback" in line or '"status": 500' in line), "")
    yield Case(
        "tracebacks in its log", not told, "no traceback in its log", log[max(0, log.find("Traceback") - 300) :][:1500]
    )
    said = next((line for line in log.splitlines() if SECRET in line.lower()), "")
    yield Case("texts in its log", not said, "no text in its log", said[:300])


END_CASES = 5


def cases(count: int, folder: Path) -> Iterator[Case]:
    checkpoint = make_model(folder)
    known = Known.of(checkpoint)
    service = Service(checkpoint, folder / "log.txt")

    def one(number: int) -> Case:
        rng = random.Random(SEED * 1_000_003 + number)
        ask: Callable[[], Case]
        if rng.random() < GOOD_SHARE:
            ask = lambda: well_formed(service.port, known, rng)  # noqa: E731
        else:
            ask = lambda: hostile(service.port, number, rng)  # noqa: E731
        return ask()

    requests = max(1, count - END_CASES)
    warm_up = min(requests, 400)
    try:
        with ThreadPoolExecutor(CLIENTS) as clients:
            yield from clients.map(one, range(warm_up))
            memory = service.memory()
            yield from clients.map(one, range(warm_up, requests))
        yield from at_the_end(service, known, memory)
    finally:
        service.process.kill()
        service.process.wait()


PROMISE = (
    "a request of a hostile client is refused in a line, and those beside it are answered right; "
    f"{END_CASES} checks of the service at the end"
)
PARTS = (Part("client", PROMISE, 10_000 + END_CASES, cases),)
