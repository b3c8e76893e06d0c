"""The package as a whole: light imports, floors, circular imports, public names."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import lagent_llms

ROOT = Path(lagent_llms.__file__).parent

# Bottom up: a module imports only from floors below its own (or from its own room), types included.
FLOORS = [
    {"errors"},
    {"control_sequences", "forks", "redaction"},
    {"copying", "locks", "untrusted"},
    {"validators"},
    {"extra_fields", "media", "retry", "timeout"},
    {"schema", "structured", "tools"},
    {"content_parts"},
    {"store"},
    {"config_file", "messages", "params", "child"},
    {"templates"},
    {"core", "meta_template"},
    {"http", "registry"},
    {"protocols"},
    {"config", "testing", "jax_engine", "lorax"},
    {"backends", "batch"},
    {"from_lagent", "ray", "serving", "wire"},
    {"cli"},
]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def room_of(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def module_of(path):
    """Return the dotted module name of a file, without the leading lagent_llms."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imported_modules(path):
    """Return the modules of lagent_llms that a file imports, type-checking imports included."""
    found = set()
    package = ("lagent_llms", *path.relative_to(ROOT).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            full = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{full}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            root, _, inner = name.partition(".")
            while root == "lagent_llms" and inner and inner not in MODULES:
                inner = inner.rpartition(".")[0]  # the name of an object in a module
            if root == "lagent_llms" and inner:
                found.add(inner)
    return found


def circle_in(graph):
    """Return one circle of `graph` as a list of its nodes; [] if there is none."""
    done, path = set(), []

    def visit(node):
        if node in path:
            return path[path.index(node) :]
        if node in done:
            return []
        path.append(node)
        for further in sorted(graph[node]):
            if found := visit(further):
                return found
        done.add(path.pop())
        return []

    return next(filter(None, map(visit, graph)), [])


FILES = [path for path in ROOT.rglob("*.py") if path.parent != ROOT or path.name != "__init__.py"]
MODULES = {module_of(path): path for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_never_run_upward(path):
    own = room_of(path)
    for module in imported_modules(path):
        room = module.partition(".")[0]
        assert room == own or FLOOR_OF[room] < FLOOR_OF[own], f"{own} imports {module}"


def test_imports_make_no_circle():
    graph = {module: {*imported_modules(path)} - {module} for module, path in MODULES.items()}
    assert circle_in(graph) == []


def test_circles_are_found():
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert circle_in({"x": {"a"}, "a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_has_at_most_400_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_importing_the_package_loads_nothing_heavy():
    code = (
        "import sys, lagent_llms; lagent_llms.create_llm; lagent_llms.BaseLLM\n"
        "heavy = {'requests', 'urllib3', 'httptools', 'aiohttp', 'msgspec', 'grpc', 'jax', 'torch', 'yaml'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_public_names_exist():
    extras = ("JAX", "HFTransformers", "VLLM")
    core = [name for name in lagent_llms.__all__ if not any(extra in name for extra in extras)]
    for name in core:
        assert getattr(lagent_llms, name).__doc__
    assert set(lagent_llms.__all__) <= set(dir(lagent_llms))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = lagent_llms.nothing
