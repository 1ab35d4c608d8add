"""Links lead somewhere, commands and options exist, no number of ours is typed, and the words are today's."""

from __future__ import annotations

import io
import re
import shlex
import sys
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path

import pytest
from pages import PAGES, ROOT, anchor, blocks, links, name_of, prose

from longread.cli.main import COMMANDS, app

sys.path[:0] = [str(ROOT), str(ROOT / "docs")]
import build  # noqa: E402

every_page = pytest.mark.parametrize("page", PAGES, ids=name_of)
# A result looks like this; a setting (512 tokens, 10,000 reviews, three layers) does not.
TYPED = (
    re.compile(r"(?<![\w.])\.\d{2,}\b"),  # .893
    re.compile(r"\b\d+\.\d+ ?(%|points?\b|times\b|s\b|ms\b|seconds\b|minutes\b|[MG]i?B\b|×)"),
    re.compile(r"\b\d[\d,]* ?(points?\b|times (as|faster|slower)|ms\b|seconds\b|[MG]i?B\b|×)"),
    re.compile(r"\b\d+ ?%"),
)
ALLOWED = re.compile(r"95 %|p < \.05|p below \.05|goal|was to reach .*|pass 85 %")
# DESIGN section 6, and what they became.
OLD_WORDS = {
    r"\brepair(ed|s|ing)?\b": "distillation",
    r"\btaught\b": "distilled",
    r"\bshares? of (attention|each token)": "attention probabilities",
    r"\bslots?\b": "projected length",
    r"\bstands? at\b|\bcomes? to \.": "scores",
    r"\bdropped attention\b": "attention dropout",
    r"\bsettled?\b": "resolved",
    r"\bexplicit (products|attention)\b": "eager",
    r"\b(the|an) older study\b": "the student study",
    r"PackedBatch of one": "a mechanical rename",
}


@cache
def help_of(command: str) -> str:
    with redirect_stdout(io.StringIO()) as out:
        app([command, "--help"], exit_on_error=False, print_error=False, result_action="return_value")
    return out.getvalue()


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        place, _, part = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        assert target.exists(), f"{name_of(page)}: {link}"
        if part:
            headings = re.findall(r"(?m)^#+ (.*)$", target.read_text("utf-8"))
            assert part in map(anchor, headings), f"{name_of(page)}: {link}: there is no such heading"


@every_page
def test_no_number_of_ours_is_typed(page: Path) -> None:
    for line in prose(page).splitlines():
        for pattern in TYPED:
            found = pattern.search(ALLOWED.sub("", line))
            assert found is None, f"{name_of(page)}: {found[0]!r} in {line.strip()!r}; fill it from a record"


@pytest.mark.parametrize(
    "text",
    ["scores .893 here", "it reaches 89.2 %", "is 11 times as fast", "takes 1,204 seconds", "in 25 % of", "3.5 points"],
)
def test_a_typed_number_would_be_found(text: str) -> None:
    assert any(pattern.search(ALLOWED.sub("", text)) for pattern in TYPED)


@every_page
def test_no_number_begins_a_line(page: Path) -> None:
    """Markdown would end the paragraph there."""
    assert re.search(r"(?m)^<!--= ", page.read_text("utf-8")) is None


@every_page
def test_words_are_todays(page: Path) -> None:
    for pattern, better in OLD_WORDS.items():
        found = re.search(pattern, prose(page), re.IGNORECASE)
        assert found is None, f"{name_of(page)}: {found[0]!r}; {better}"


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_texts_use_todays_words(command: str) -> None:
    text = " ".join(re.sub(r"[│╭╮╰╯─]", " ", help_of(command)).split())
    for pattern, better in OLD_WORDS.items():
        found = re.search(rf".{{0,30}}(?<![-\w])({pattern})", text, re.IGNORECASE)
        assert found is None, f"longread {command} --help: {found[0]!r}; {better}"


@every_page
def test_commands_and_options_exist(page: Path) -> None:
    lines = [line for block in blocks(page) if block.language == "sh" for line in block.text.splitlines()]
    named = re.findall(r"`(longread [a-z][^`]*)`", page.read_text("utf-8"))
    for line in [*lines, *named]:
        words = shlex.split(line, comments=True)
        if words[:1] != ["longread"] or len(words) < 2 or words[1].startswith("-"):
            continue
        assert words[1] in COMMANDS, f"{name_of(page)}: {line}"
        text = help_of(words[1])
        for option in (word.split("=")[0] for word in words if word.startswith("--") and word != "--help"):
            assert re.search(rf"{option}(?![-\w])", text), f"{name_of(page)}: {line}: no option {option}"


@every_page
def test_studies_named_in_a_command_exist(page: Path) -> None:
    for line in page.read_text("utf-8").splitlines():
        if "experiments/run.py" in line:
            named = re.findall(r"run\.py (\w+)", line)
            named += re.findall(r"`([a-z_]+)`", line) if line.startswith("Again: ") else []
            for study in named:
                assert study == "STUDY" or (ROOT / "experiments" / f"{study}.py").exists(), f"{name_of(page)}: {study}"


def test_the_readme_is_short_and_names_the_student_study_once() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.splitlines()) <= 100
    assert text.count("395t/coding-assignment-week-7-eff-2") == 1


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text("utf-8")
    missing = [name_of(page) for page in PAGES if f" {name_of(page)}\n" not in text]
    assert missing == []


def test_pages_of_the_site_link_to_pages_of_the_site() -> None:
    known = {page.resolve() for page in build.pages()}
    text = build.copied(ROOT / "README.md", known)
    assert "results/imdb-scratch/report.md" in text
    assert ".ipynb)" not in build.copied(ROOT / "docs/start/tour.md", known)


@pytest.mark.slow
def test_the_reference_of_the_command_line_is_todays() -> None:
    assert build.REFERENCE.read_text("utf-8") == build.reference(), "run `python docs/build.py reference`"


def test_the_fields_of_a_record_are_todays() -> None:
    assert build.RECORDS.read_text("utf-8") == build.records(), "run `python docs/build.py reference`"
    assert "`eval_seconds`" in build.records() and "`load_at_end`" in build.records()


def test_names_of_the_python_reference_exist() -> None:
    import importlib

    for page in (ROOT / "docs" / "reference").glob("*.md"):
        for name in re.findall(r"(?m)^::: (\S+)$", page.read_text("utf-8")):
            module, _, attribute = name.rpartition(".")
            assert hasattr(importlib.import_module(module), attribute), name
