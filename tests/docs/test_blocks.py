"""Every block of code of the pages that show how to do something runs: small data, no network, in one process."""

from __future__ import annotations

import csv
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from pages import ROOT, blocks, name_of

from longread.cli import main as cli

PAGES = [
    page
    for folder in ("start", "howto", "inside", "reference")
    for page in sorted((ROOT / "docs" / folder).glob("*.md"))
    if any(block.run and block.language in ("sh", "python") for block in blocks(page))
]
TEXTS = {
    "complaint": ("the parcel came late", "nobody answered my calls", "it broke after a day", "still no refund"),
    "praise": ("thank you it arrived", "great and friendly service", "works as it should", "quick answer"),
}
# Sizes of a model that trains in a blink, for what a page leaves at its default.
TINY = {"--hidden-size": "16", "--num-attention-heads": "2", "--vocab-size": "300", "--threads": "1"}
SLOW = {
    "compare.md",
    "export.md",
    "long-documents.md",
    "own-data.md",
    "tour.md",
}  # processes of their own, or onnxruntime
NEEDS_A_MODEL = {"serve.md", "export.md", "explain.md"}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, length in (("mail.csv", 1), ("complaints.csv", 60)):
        with Path(name).open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            for number in range(15):
                for label, texts in TEXTS.items():
                    told = " ".join(texts[(number + i) % 4] for i in range(length))
                    writer.writerow([f"{told} {number}", label])
    for name, header, cells in (
        ("letters.csv", "labels", lambda number: "late; rude" if number % 3 else "rude"),
        ("complaints-by-kind.csv", "late,broken,rude", lambda number: f"{number % 2},{int(number % 3 == 0)},0"),
        ("stars.csv", "stars", lambda number: str(1 + number % 5)),
    ):
        rows = [f"{TEXTS['complaint'][number % 4]} {number},{cells(number)}" for number in range(30)]
        Path(name).write_text("\n".join([f"text,{header}", *rows]))
    Path("new.csv").write_text("text\nstill no answer\nthank you\n")
    return tmp_path


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    """Stands for bert-base-uncased: a BERT of two narrow layers, with a tokenizer of its own."""
    import longread
    from longread.data.masking import with_mask_token
    from longread.data.tokenizer import train_tokenizer

    tokenizer = train_tokenizer([text for texts in TEXTS.values() for text in texts], 299, lowercase=True)
    tokenizer = with_mask_token(tokenizer)
    model = longread.build(
        "dense", vocab_size=300, num_hidden_layers=2, hidden_size=16, num_attention_heads=2, num_labels=2,
        max_length=64, norm_position="post", pooling="first", head_activation="tanh", type_vocab_size=2,
    )  # fmt: skip
    longread.save_pretrained(model, tmp_path / "bert", tokenizer=tokenizer)
    return tmp_path / "bert"


@pytest.fixture
def modernbert(tmp_path: Path) -> Path:
    """Stands for answerdotai/ModernBERT-base: one period of its layers, narrow, with random weights."""
    import longread
    from longread.data.tokenizer import train_tokenizer

    tokenizer = train_tokenizer([text for texts in TEXTS.values() for text in texts], 300, lowercase=False)
    model = longread.build(
        "dense local local", vocab_size=300, num_hidden_layers=3, hidden_size=16, num_attention_heads=2,
        intermediate_size=24, max_length=8192, position_kind="rotary", rotary_base=(160_000.0, 10_000.0, 10_000.0),
        gated=True, first_attention_norm=False, attention_bias=False, feed_forward_bias=False, norm_bias=False,
        head_bias=False, head_norm=True, head_activation="gelu", pooling="mean", dropout_inside=True,
    )  # fmt: skip
    longread.save_pretrained(model, tmp_path / "modernbert", layout="huggingface", tokenizer=tokenizer)
    return tmp_path / "modernbert"


def newest_run(text: str) -> str:
    """The text with RUN in place of the run that a command named last."""

    def run(found: re.Match[str]) -> str:
        runs = sorted(Path(found[1]).glob("*/checkpoint"), key=lambda path: path.stat().st_mtime)
        return f"{found[1]}{runs[-1].parent.name}"

    return re.sub(r"([\w./-]*runs/)RUN\b", run, text)


def command(line: str) -> None:
    words = shlex.split(newest_run(line), comments=True)
    if words[:1] != ["longread"]:
        raise AssertionError(f"{line!r} is no command that the test runs; say `<!-- not run: why -->` above the block")
    arguments = words[1:]
    if arguments[0] in ("train", "compare"):
        own = TINY if "--init" not in arguments else {"--threads": "1"}
        arguments += [part for name, value in own.items() if name not in arguments for part in (name, value)]
        arguments += [] if "--epochs" in arguments else ["--epochs", "1"]
        if "tfidf" in arguments:
            arguments = arguments[: len(words) - 1]
        if arguments[0] == "compare" and "letters.csv" not in arguments:  # each run is a process: one seed, few of them
            arguments = [*shlex.split(re.sub(r"--seed 0 1 2", "--seed 0", shlex.join(arguments))), "--no-baselines"]
    assert cli.main(arguments) == 0, line


class Shell:
    """What is no command of ours: a server in the background, curl, and its end. Each must succeed."""

    def __init__(self) -> None:
        self.background: subprocess.Popen[str] | None = None

    def takes(self, line: str) -> bool:
        words = shlex.split(newest_run(line), comments=True)
        if words[-1:] == ["&"]:
            self.background = subprocess.Popen(
                [sys.executable, "-m", *words[:-1]], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        elif words[:1] == ["curl"]:
            try:
                done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
                assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
                assert "predict" not in line or '"label"' in done.stdout
            except BaseException:
                self.end()
                raise
        elif words[:2] == ["kill", "%1"]:
            assert self.end() == 0, line
        else:
            return False
        return True

    def end(self) -> int:
        assert self.background is not None
        self.background.terminate()
        try:
            self.background.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self.background.kill()
            self.background.communicate()
        return self.background.returncode


@pytest.mark.parametrize(
    "page", [pytest.param(p, id=name_of(p), marks=[pytest.mark.slow] if p.name in SLOW else []) for p in PAGES]
)
@pytest.mark.filterwarnings("ignore")
def test_the_blocks_of_a_page_run(page: Path, place: Path, bert: Path, modernbert: Path) -> None:
    if page.name in NEEDS_A_MODEL:
        command("longread train mail.csv --attention longformer --out out/mail")
    names: dict[str, object] = {}
    shell = Shell()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for block in blocks(page):
        text = block.text.replace("bert-base-uncased", str(bert)).replace("8765", str(port))
        text = text.replace("answerdotai/ModernBERT-base", str(modernbert))
        if not block.run:
            continue
        if block.language == "sh":
            for line in text.splitlines():
                if not shell.takes(line):
                    command(line)
        elif block.language == "python":
            exec(compile(newest_run(text), name_of(page), "exec"), names)
