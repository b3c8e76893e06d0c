"""ConformanceTests of the package as a whole: light imports, floors, public names."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import lagent_llms

ROOT = Path(lagent_llms.__file__).parent

# Bottom up: a module imports only from floors below its own (or from its own room).
FLOORS = [
    {"errors", "locks"},
    {"validators"},
    {"params", "schema", "child"},
    {"templates"},
    {"core", "meta_template"},
    {"http", "registry"},
    {"protocols"},
    {"config", "testing", "jax_engine", "lorax"},
    {"backends"},
    {"serving", "wire"},
    {"cli"},
]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def room_of(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported_rooms(path):
    """Rooms of lagent_llms that a file imports when it is run (not for type checkers only)."""
    package = ("lagent_llms", *path.relative_to(ROOT).parts[:-1])

    def walk(node):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.ImportFrom):
                base = package[: len(package) - child.level + 1] if child.level else ()
                full = [*base, *(child.module.split(".") if child.module else [])]
                if full[:1] == ["lagent_llms"]:
                    yield from [full[1]] if len(full) > 1 else [alias.name for alias in child.names]
            yield from walk(child)

    return set(walk(ast.parse(path.read_text(encoding="utf-8"))))


FILES = [path for path in ROOT.rglob("*.py") if path.parent != ROOT or path.name != "__init__.py"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_never_run_upward(path):
    own = room_of(path)
    for room in imported_rooms(path) - {own, "__version__"}:
        assert FLOOR_OF[room] < FLOOR_OF[own], f"{own} imports {room}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_can_be_read_in_a_sitting(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_importing_the_package_loads_nothing_heavy():
    code = (
        "import sys, lagent_llms; lagent_llms.create_llm; lagent_llms.BaseLLM\n"
        "heavy = {'requests', 'urllib3', 'aiohttp', 'grpc', 'jax', 'torch', 'lmdeploy', 'numpy', 'yaml'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_public_names_are_there():
    core = [name for name in lagent_llms.__all__ if "JAX" not in name]
    for name in core:
        assert getattr(lagent_llms, name).__doc__
    assert set(lagent_llms.__all__) <= set(dir(lagent_llms))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = lagent_llms.nothing
