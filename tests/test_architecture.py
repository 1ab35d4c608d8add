"""Imports run one way, and no room is larger than it looks. Every `import` of the package is read."""

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

# Room -> the rooms it may import. Those of LEFT stand to the left of all the others.
LEFT = {"errors", "checks", "problems", "records", "settings", "config"}
KNOWS: dict[str, set[str]] = {
    "errors": set(),
    "checks": {"errors"},
    "problems": set(),
    "records": {"errors", "problems"},
    "settings": {"checks", "problems", "data"},
    "config": {"checks", "data", "settings"},
    "ops": {"errors"},
    "system": {"errors", "ops"},
    "attention": {"errors", "checks", "ops"},
    "data": {"errors", "checks", "problems", "records"},
    "models": LEFT | {"ops", "attention", "data"},
    "inference": LEFT | {"ops", "attention", "data", "models", "system"},
    "training": LEFT | {"ops", "attention", "data", "models", "system", "inference"},
    "study": LEFT | {"ops", "attention", "data", "models", "system", "inference", "training"},
    "report": LEFT,
    "serving": LEFT | {"ops", "data", "models", "system", "inference"},
    "sklearn": LEFT | {"data", "models", "system", "inference", "training"},
    "hf": LEFT | {"ops", "attention", "data", "models"},
    "cli": LEFT | {"attention", "data", "models", "system", "inference", "training", "study", "report", "serving"},
    "__main__": {"cli"},
}
WITHOUT_TORCH = ("errors", "checks", "problems", "records", "settings", "config", "data", "report")
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
    """Full names of the modules that a file imports, also inside functions and for types alone."""
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


IMPORTS = {module_of(file): imports(file) for file in FILES}


def test_the_package_was_read() -> None:
    assert set(KNOWS) >= {"ops", "attention", "models"}
    assert "longread.ops.packed" in IMPORTS["longread.attention.dense"]
    assert "torch" in IMPORTS["longread.ops.packed"]


@pytest.mark.parametrize("room", sorted(ROOMS - {"version"}))
def test_a_room_imports_no_more_than_it_may(room: str) -> None:
    own = {module for module in MODULES if room_of(module) == room}
    known = {room_of(name) for module in own for name in IMPORTS[module] if name.split(".")[0] == "longread"}
    assert known - {room, "version"} <= KNOWS[room]


def test_no_module_reaches_itself() -> None:
    def reach(module: str) -> set[str]:
        seen: set[str] = set()
        waiting = [module]
        while waiting:
            new = (IMPORTS.get(waiting.pop(), set()) & MODULES) - seen
            seen |= new
            waiting.extend(new)
        return seen

    assert not [module for module in MODULES if module in reach(module)], "a circle of imports"


@pytest.mark.parametrize("room", WITHOUT_TORCH)
def test_rooms_that_work_without_torch_never_name_it(room: str) -> None:
    libraries = {name.split(".")[0] for module in MODULES if room_of(module) == room for name in IMPORTS[module]}
    assert not libraries & {"torch", "safetensors"}


@pytest.mark.parametrize(
    "command",
    [
        "import longread.cli.main",
        "import runpy; sys.argv = ['longread', '--help']; runpy.run_module('longread', run_name='__main__')",
        "import longread.report, longread.data.tasks, longread.records",
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
