"""Imports run one way. Every `import` in the package is read, those inside functions too."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

_spec = importlib.util.find_spec("longread")
assert _spec is not None
assert _spec.submodule_search_locations is not None
PACKAGE = Path(next(iter(_spec.submodule_search_locations)))
FILES = sorted(PACKAGE.rglob("*.py"))

# Arrows: whoever stands to the right may import what stands to the left, directly or not, and never the reverse.
ARROWS = [
    ("attention", "encoder", "checkpoint", "convert"),
    ("tasks", "data"),
    *[(used, "train") for used in ("encoder", "data", "evaluate", "measure", "runs")],
    ("runs", "report"),
    ("train", "compare"),
]
# The only rooms that these may know, and the only libraries (None: any but torch, see below).
KNOWS: dict[str, tuple[set[str], set[str] | None]] = {
    "errors": (set(), set()),
    "attention": ({"dropout", "errors"}, {"torch", "numpy"}),
    "encoder": ({"attention", "dropout", "errors"}, {"torch"}),
    "measure": ({"errors", "version"}, {"torch", "psutil"}),
    "report": ({"runs", "config", "errors", "version"}, None),  # config: what a record's settings mean
}
WITHOUT_TORCH = ["baselines", "config", "data", "report", "runs", "tasks"]
SLOW_TO_LOAD = {"torch", "sklearn", "scipy", "transformers", "matplotlib"}


def room_of(module: str) -> str:
    """longread.report.tables -> report; the package itself holds its version and little else."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "version"


def module_of(file: Path) -> str:
    return ".".join(("longread", *file.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


MODULES = {module_of(file) for file in FILES}
ROOMS = {room_of(module) for module in MODULES}


def imports(file: Path) -> set[str]:
    """Full names of the modules that a file imports."""
    found = set()
    inside = module_of(file).split(".")[: None if file.name == "__init__.py" else -1]
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = inside[: len(inside) + 1 - node.level] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            names = {f"{source}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else source for name in names}
    return found


def knowledge() -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Of each room: the rooms that it imports, and the other libraries outside of Python's own."""
    rooms: dict[str, set[str]] = {room: set() for room in ROOMS}
    libraries: dict[str, set[str]] = {room: set() for room in ROOMS}
    for file in FILES:
        room = room_of(module_of(file))
        for module in imports(file):
            top = module.split(".")[0]
            if top == "longread":
                rooms[room] |= {room_of(module)} - {room}
            elif top not in sys.stdlib_module_names:
                libraries[room].add(top)
    return rooms, libraries


IMPORTED, LIBRARIES = knowledge()


def reach(room: str) -> set[str]:
    """The rooms that a room imports, and those that they import."""
    seen: set[str] = set()
    waiting = [room]
    while waiting:
        new = IMPORTED.get(waiting.pop(), set()) - seen
        seen |= new
        waiting.extend(new)
    return seen


def test_the_package_was_read() -> None:
    assert {"attention", "encoder", "errors"} <= ROOMS
    assert "attention" in IMPORTED["encoder"]
    assert "torch" in LIBRARIES["attention"]


@pytest.mark.parametrize("arrow", ARROWS, ids=" <- ".join)
def test_imports_run_one_way(arrow: tuple[str, ...]) -> None:
    for place, left in enumerate(arrow):
        assert not reach(left) & set(arrow[place + 1 :]), f"{left} imports a room to the right of it"


def test_no_rooms_import_each_other() -> None:
    assert not [room for room in ROOMS if room in reach(room)], "a circle of imports"


def test_nothing_imports_the_commands() -> None:
    assert {room for room in ROOMS if "cli" in IMPORTED[room]} <= {"__main__"}


@pytest.mark.parametrize("room", KNOWS)
def test_a_room_knows_no_more_than_it_may(room: str) -> None:
    own, libraries = KNOWS[room]
    assert IMPORTED.get(room, set()) <= own
    assert libraries is None or LIBRARIES.get(room, set()) <= libraries


@pytest.mark.parametrize("room", WITHOUT_TORCH)
def test_rooms_that_work_without_torch_never_reach_it(room: str) -> None:
    for known in {room, *reach(room)}:
        assert not LIBRARIES.get(known, set()) & {"torch", "safetensors"}, f"{room} reaches torch through {known}"


@pytest.mark.skipif("cli" not in ROOMS, reason="the commands are not written yet")
@pytest.mark.parametrize(
    "command",
    [
        "import longread.cli",
        "import runpy; sys.argv = ['longread', '--help']; runpy.run_module('longread', run_name='__main__')",
        "import longread.report, longread.tasks, longread.runs",
    ],
    ids=["import", "help", "report"],
)
def test_a_quick_answer_loads_nothing_slow(command: str) -> None:
    told = f"import sys, atexit; atexit.register(lambda: print(*sys.modules, file=sys.stderr)); {command}"
    run = subprocess.run([sys.executable, "-W", "error", "-c", told], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    loaded = set(run.stderr.split())
    assert "longread" in loaded
    assert not loaded & SLOW_TO_LOAD


def test_public_names_stay_what_they_are_whatever_is_imported() -> None:
    """`longread.train` is the function, also after the module longread.train was loaded."""
    check = (
        "import importlib, types, longread\n"
        "for room in ('train', 'compare', 'convert', 'evaluate', 'classifier'):\n"
        "    importlib.import_module('longread.' + room)\n"
        "for name in longread.__all__[1:]:\n"
        "    for _ in range(2):\n"
        "        assert not isinstance(getattr(longread, name), types.ModuleType), name\n"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
