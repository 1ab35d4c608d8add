"""Requests that are wrong, odd or rude, by kind."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stress.talk import Piece

MAX_TEXTS, MAX_BODY = 6, 100_000
LIMITS = ["--max-texts", str(MAX_TEXTS), "--max-body-bytes", str(MAX_BODY), "--timeout", "20"]
SECRET = "kumquat"  # in every text; no log may have it
WORDS = [SECRET, "long", "warm", "funny", "film", "that", "crashes", "at", "once", "and", "works", "so", "well"]
WRONG = frozenset({400, 422})
TAKEN = frozenset({200})


@dataclass(frozen=True)
class Request:
    """Pieces to send, and what may come back. expected: statuses; empty for any below 500."""

    name: str
    pieces: list[Piece]
    expected: frozenset[int] = frozenset()
    answers: int = 1
    may_be_closed: bool = False
    half_close: bool = False
    leaves: str = ""


def texts(count: int) -> list[str]:
    rng = random.Random(7)
    return [" ".join([SECRET, *rng.choices(WORDS, k=rng.choice((1, 4, 12, 40, 200)))]) for _ in range(count)]


def post(body: bytes, path: str = "/predict", *headers: str, length: int | str | None = None) -> bytes:
    told = len(body) if length is None else length
    lines = [f"POST {path} HTTP/1.1", "host: x", f"content-length: {told}", *headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def valid(rng: random.Random) -> bytes:
    return json.dumps({"inputs": rng.sample(texts(20), rng.randint(1, 3))}).encode()


def noise(rng: random.Random) -> Request:
    body = rng.randbytes(rng.choice((0, 1, 5, 100, 5000)))
    return Request("random bytes", [post(body)], WRONG)


def mutated(rng: random.Random) -> Request:
    """A valid body with bytes changed, left out or put in; it may still be valid."""
    body = bytearray(valid(rng))
    for _ in range(rng.randint(1, 5)):
        place = rng.randrange(len(body))
        change = rng.randrange(3)
        if change == 0:
            body[place] = rng.randrange(256)
        elif change == 1:
            del body[place : place + rng.randint(1, 20)]
        else:
            body[place:place] = rng.choice((b'"', b"{", b"[", b",", b"null", b"\\", b"\x00", b"\xff", b":"))
        if not body:
            body = bytearray(b" ")
    return Request("mutated body", [post(bytes(body))], WRONG | TAKEN)


def value(rng: random.Random, depth: int = 0) -> Any:
    """Any JSON value."""
    kind = rng.randrange(6 if depth > 3 else 8)
    if kind == 6:
        return [value(rng, depth + 1) for _ in range(rng.randint(0, 4))]
    if kind == 7:
        names = ["inputs", "text", "pair", "label", SECRET, "", "\ud800", "x" * 300, "__class__", "constructor"]
        return {rng.choice(names): value(rng, depth + 1) for _ in range(rng.randint(0, 3))}
    return rng.choice((None, True, False, 0, -1, 1e308, 10**30, "", SECRET, "\u0000", "\ud800", "\U0001f600" * 20))


def wrong_types(rng: random.Random) -> Request:
    inner = value(rng)
    body = rng.choice((inner, {"inputs": inner}, {"inputs": [SECRET, inner]}, {"inputs": {"text": inner}},
                       {"inputs": SECRET, "more": inner}, {"text": inner}))  # fmt: skip
    path = rng.choice(("/predict", "/predict", "/explain"))
    return Request("wrong types", [post(json.dumps(body).encode(), path)], WRONG | TAKEN)


def huge_numbers(rng: random.Random) -> Request:
    number = rng.choice(("1e999", "-1e999", "9" * 5000, "9" * 90_000, "NaN", "Infinity", "-" * 100, "1" + "0" * 400,
                         "0." + "3" * 50_000, "1e-99999999"))  # fmt: skip
    shape = rng.choice(('{"inputs": %s}', "%s", '{"inputs": ["a", %s]}', '{"inputs": {"text": %s}}'))
    return Request("huge numbers", [post((shape % number).encode())], WRONG)


def deep(rng: random.Random) -> Request:
    depth = rng.choice((10, 500, 900, 1100, 5000, 45_000))
    opened, closed = rng.choice((("[", "]"), ('{"inputs":', "}"), ('{"text":', "}"), ('[{"a":', "}]")))
    depth = min(depth, MAX_BODY // (len(opened) + len(closed)) - 10)
    body = opened * depth + '"a"' + (closed * depth if rng.random() < 0.7 else "")
    if rng.random() < 0.5:
        body = '{"inputs": ' + body + "}"
    return Request("deep nesting", [post(body.encode())], WRONG)


def bad_utf8(rng: random.Random) -> Request:
    broken = rng.choice((b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\x80", b"\xff\xfe", b"\xfe",
                         b"\xf8\x88\x80\x80\x80"))  # fmt: skip
    text = (SECRET.encode() + broken) * rng.choice((1, 50))
    body = b'{"inputs": "' + text + b'"}'
    if rng.random() < 0.3:
        body = ('{"inputs": "' + SECRET + '"}').encode(rng.choice(("utf-16", "utf-32", "utf-16-be", "utf-7")))
        return Request("another encoding", [post(body)], WRONG | TAKEN)
    return Request("bad UTF-8", [post(body)], WRONG)


def odd_texts(rng: random.Random) -> Request:
    """Texts that nobody expects, but that are texts: each has an answer."""
    odd = ("", " ", "\u0000", "\u202e" + SECRET, "e\u0301" * 500, "\U0001f468\u200d\U0001f469" * 50, "\r\n\t\x0b",
           "\ufeff", SECRET * 3000, "a" * 50_000, "\uffff", "<script>" + SECRET, "../../etc/passwd", "%s%n{}${x}",
           "\x1b[31m", "[CLS]", "<s></s>", "\u0627\u0644" * 300, "\u4e00" * 2000)  # fmt: skip
    chosen = [rng.choice(odd) for _ in range(rng.randint(1, MAX_TEXTS))]
    body = json.dumps({"inputs": chosen}, ensure_ascii=rng.random() < 0.5).encode()
    return Request("odd texts", [post(body)], TAKEN if len(body) <= MAX_BODY else frozenset({413}))


def too_much(rng: random.Random) -> Request:
    if rng.random() < 0.5:
        body = json.dumps({"inputs": [SECRET] * rng.choice((MAX_TEXTS + 1, 1000, 9000))}).encode()
        return Request("too many texts", [post(body)], frozenset({422, 413}))
    body = json.dumps({"inputs": SECRET * rng.choice((20_000, 200_000))}).encode()
    # The answer comes before all is read, and the connection may end under the client's hands.
    return Request("too large", [post(body)], frozenset({413}), may_be_closed=True)


def odd_headers(rng: random.Random) -> Request:
    body = valid(rng)
    kind = rng.choice(("text/html", "a/b; charset=utf-16", "", "x" * 500))
    given = rng.choice(("x" * 129, chr(233), "a b", "", "{}", chr(34)))
    bad = rng.choice(("no colon", ": empty", "a b: c", "x: a\x00b"))
    name, pieces, expected = rng.choice([
        ("content type", [post(body, "/predict", f"content-type: {kind}")], TAKEN),
        ("gzip", [post(gzip.compress(body), "/predict", "content-encoding: gzip")], frozenset({415})),
        ("gzip unsaid", [post(gzip.compress(body))], WRONG),
        ("many headers", [post(body, "/predict", *(f"x-{n}: {n}" for n in range(200)))], TAKEN),
        ("large header", [post(body, "/predict", "x-large: " + "x" * 100_000)], TAKEN | {400}),
        ("ids", [post(body, "/predict", f"x-request-id: {given}")], TAKEN),
        ("bad header", [post(body, "/predict", bad)], frozenset({400})),
        ("expect", [post(body, "/predict", "expect: 100-continue")], frozenset({100, 200})),
        ("upgrade", [post(body, "/predict", "connection: upgrade", "upgrade: websocket")], frozenset({200, 400, 426})),
        ("origin", [post(body, "/predict", "origin: https://elsewhere.example", "cookie: a=b")], TAKEN),
        ("no host", [b"POST /predict HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(body) + body], frozenset({400})),
        ("version 1.0", [b"POST /predict HTTP/1.0\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body], TAKEN),
    ])  # fmt: skip
    return Request(name, pieces, expected)


def wrong_lengths(rng: random.Random) -> Request:
    body = valid(rng)
    chunked = "transfer-encoding: chunked"
    head = f"POST /predict HTTP/1.1\r\nhost: x\r\n{chunked}\r\n\r\n".encode()
    whole = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    bad = frozenset({400})
    name, pieces, expected = rng.choice([
        ("shorter", [post(body, length=len(body) // 2)], WRONG),
        ("negative", [post(body, length=-5)], bad),
        ("no number", [post(body, length=rng.choice(("x", "", "1e3", "0x10", "+5", "\xb2")))], bad),
        ("twice", [post(body, "/predict", "content-length: 3")], bad),
        ("enormous", [post(body, length="9" * 30)], frozenset({400, 413})),
        ("said too large", [post(body, length=MAX_BODY + 1)], frozenset({413})),
        ("none", [b"POST /predict HTTP/1.1\r\nhost: x\r\n\r\n"], bad),
        ("chunked", [head + whole], TAKEN),
        ("chunked byte by byte", [head, b"".join(b"1\r\n%c\r\n" % one for one in body), b"0\r\n\r\n"], TAKEN),
        ("chunked and too large", [head, *([b"1000\r\n" + b"a" * 4096 + b"\r\n"] * 40)], frozenset({413})),
        ("chunked and a length", [post(whole, "/predict", chunked)], bad | TAKEN),
        ("bad chunk", [head + rng.choice((b"zz\r\n", b"-1\r\n\r\n", b"ffffffffffffffffff\r\n", b"5\r\nabc"))
                       + b"\r\n\r\nrest\r\n"], bad | {408}),
    ])  # fmt: skip
    return Request(name, pieces, expected, may_be_closed=name in ("chunked and too large", "bad chunk"))


def not_http(rng: random.Random) -> Request:
    line = rng.choice((b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n",
                       b"GET  / HTTP/1.1\r\nhost: x\r\n\r\n", b"\r\n\r\n\x00\r\n\r\n",
                       SECRET.encode() * 20_000, b"GET /\xff HTTP/1.1\r\nhost: x\r\n\r\n", b"G\tT / HTTP/1.1\r\n\r\n",
                       rng.randbytes(300).replace(b"\n", b"") + b"\r\n\r\n"))  # fmt: skip
    return Request("no HTTP", [line], frozenset({400}), may_be_closed=True)


def odd_paths(rng: random.Random) -> Request:
    path = rng.choice(("/..", "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/page.js/../app.py", "/%00", "/%ff",
                       "//predict", "/predict/", f"/{SECRET}", "/" + "a" * 20_000, "/?x=" + SECRET, "/docs/../app.py",
                       "/.", "/page.js%00", "http://elsewhere.example/", "*", "/ready?" + "&" * 5000, "/openapi.json",
                       "/metrics", "/health"))  # fmt: skip
    method = rng.choice(("GET", "GET", "GET", "HEAD", "OPTIONS", "DELETE", "TRACE", "PUT", "CONNECT", "BREW"))
    asked = f"{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode()
    return Request(f"{method} {path[:60]}", [asked], may_be_closed=method in ("CONNECT", "HEAD"))


def half_closed(rng: random.Random) -> Request:
    sent = post(valid(rng))
    if rng.random() < 0.5:
        sent = sent[: rng.randrange(1, len(sent))]
    return Request("half closed", [sent], may_be_closed=True, half_close=True)


def slow(rng: random.Random) -> Request:
    sent = post(valid(rng))
    places = sorted(rng.sample(range(1, len(sent)), rng.randint(1, 4)))
    pieces: list[Piece] = []
    for begin, end in zip([0, *places], [*places, len(sent)], strict=True):
        pieces += [sent[begin:end], rng.choice((0.001, 0.02, 0.1))]
    return Request("slow", pieces, TAKEN)


def leaves(rng: random.Random) -> Request:
    sent = post(json.dumps({"inputs": [SECRET + " film" * 400] * 3}).encode())
    if rng.random() < 0.5:
        sent = sent[: rng.randrange(1, len(sent))]
    return Request("leaves", [sent, rng.choice((0.0, 0.01))], leaves=rng.choice(("close", "reset")))


def several_at_once(rng: random.Random) -> Request:
    """Requests behind one another without waiting for an answer, one of them wrong."""
    sent = post(valid(rng)) + post(b"{") + b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"
    return Request("pipelined", [sent], TAKEN | {400}, answers=3)


def explanations(rng: random.Random) -> Request:
    body, expected = rng.choice([
        ({"text": SECRET + " funny"}, TAKEN), ({"text": ""}, TAKEN | {422}), ([], frozenset({422})),
        ({"text": SECRET, "pair": SECRET}, frozenset({422})), ({"inputs": SECRET}, frozenset({422})),
        ({"text": SECRET, "label": SECRET}, frozenset({422})), ({"text": "\u0000"}, TAKEN | {422}),
        ({"text": SECRET, "label": "\ud800"}, frozenset({422})),
    ])  # fmt: skip
    return Request("explain", [post(json.dumps(body).encode(), "/explain")], expected)


KINDS: dict[str, Callable[[random.Random], Request]] = {
    make.__name__.replace("_", " "): make
    for make in (noise, mutated, wrong_types, huge_numbers, deep, bad_utf8, odd_texts, too_much, odd_headers,
                 wrong_lengths, not_http, odd_paths, half_closed, slow, leaves, several_at_once, explanations)
}  # fmt: skip
