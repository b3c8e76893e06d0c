"""Find an lmdeploy installation and build the command line of ``lmdeploy serve api_server``.

Known flags are parsed from the source of the installed command line, because importing it takes ten seconds.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...child.interpreter import find_python
from ...errors import InvalidArgument, MissingDependency, ServerStartError

__all__ = ["Installation", "check_flags", "check_path", "find_installation", "flag_arguments"]

_LAUNCHER = Path(__file__).parents[2] / "child" / "launcher.py"
_INSPECT_SCRIPT = """
import importlib.metadata, importlib.util, json
found = importlib.util.find_spec("lmdeploy")
print(json.dumps([importlib.metadata.version("lmdeploy"), list(found.submodule_search_locations)[0]]
                 if found else None))
"""
#: Flags set by constructor arguments of `LMDeployServer`, and the argument's name.
_RESERVED_FLAGS = {
    "server-name": "server_name", "server-port": "server_port", "model-name": "model_name", "tp": "tp",
    "api-keys": "api_key", "log-level": "log_level",
}  # fmt: skip


def check_path(path: str) -> None:
    """Check that a model's path that cannot be a hub id exists.

    Raises:
        ServerStartError: There is no such file or directory.
    """
    local = path.startswith(("/", "./", "../", "~")) or path.count("/") > 1
    if local and not Path(path).exists():
        raise ServerStartError(f"path={path!r}: there is no such file or directory")


@dataclass(frozen=True)
class Installation:
    """An lmdeploy installation that can be run.

    Attributes:
        command: Words that stand for ``lmdeploy`` on a command line.
        version: Version, '' if unknown.
        flags: Flags of ``serve api_server`` without their dashes, mapped to whether each takes a value; None
            if unknown.
    """

    command: tuple[str, ...]
    version: str = ""
    flags: Mapping[str, bool] | None = None

    @property
    def is_python(self) -> bool:
        """True if the command is a Python program."""
        return _python_program(self.command) is not None

    def with_hidden(self, arguments: Sequence[str], hidden: Sequence[str]) -> tuple[list[str], bytes]:
        """Build the command line for `arguments`, with `hidden` arguments passed on standard input.

        Returns:
            The command line, and the bytes for its standard input.

        Raises:
            InvalidArgument: `hidden` is not empty and the command is not a Python program.
        """
        if not hidden:
            return [*self.command, *arguments], b""
        program = _python_program(self.command)
        if program is None:
            raise InvalidArgument(
                f"command={' '.join(self.command)!r}: the API key cannot be hidden from the process list; "
                "pass a Python program such as ['/opt/lmdeploy/bin/python', '-m', 'lmdeploy'], "
                "or api_key=None",
                argument="command",
            )
        return [program[0], str(_LAUNCHER), *program[1:], *arguments], json.dumps(list(hidden)).encode()


def find_installation(command: str | Sequence[str] | None) -> Installation:
    """Find the lmdeploy that `command` runs.

    Args:
        command: Program, or program with arguments, that stands for ``lmdeploy``. None (default) uses the
            lmdeploy of this Python environment, else the one on PATH.

    Raises:
        MissingDependency: `command` is None and no lmdeploy is installed.
        ServerStartError: The program does not exist or cannot import lmdeploy.
    """
    if command is None:
        if importlib.util.find_spec("lmdeploy") is not None:
            command = (find_python(), "-m", "lmdeploy")
        elif (found := shutil.which("lmdeploy")) is not None:
            command = (found,)
        else:
            raise MissingDependency.of("lmdeploy", "lmdeploy")
    words = (command,) if isinstance(command, str) else tuple(command)
    if not words or not all(isinstance(word, str) and word for word in words):
        raise InvalidArgument(
            f"command={command!r}: allowed is a program, or a list of a program and its arguments",
            argument="command",
        )
    return _inspect(words)


@lru_cache
def _inspect(command: tuple[str, ...]) -> Installation:
    program = shutil.which(command[0])
    if program is None:
        raise ServerStartError(f"command={' '.join(command)!r}: there is no program {command[0]!r}")
    python = _python_program(command)
    if python is None:
        return Installation(command)
    done = subprocess.run(
        [python[0], "-c", _INSPECT_SCRIPT], capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode:
        raise ServerStartError(
            f"command={' '.join(command)!r}: {python[0]} does not run", log_tail=done.stderr[-2000:]
        )
    found = json.loads(done.stdout.splitlines()[-1])
    if found is None:
        raise ServerStartError(f"command={' '.join(command)!r}: lmdeploy is not installed for {python[0]}")
    version, location = found
    return Installation(command, version, _read_flags(Path(location) / "cli") or None)


def _python_program(command: Sequence[str]) -> tuple[str, ...] | None:
    """(interpreter, '-m', module) or (interpreter, script) if `command` is a Python program."""
    if len(command) == 3 and command[1] == "-m":
        return tuple(command)
    if len(command) == 2 and command[1].endswith(".py"):
        return tuple(command)
    if len(command) == 1 and (interpreter := _interpreter(shutil.which(command[0]) or "")):
        return interpreter, shutil.which(command[0]) or command[0]
    return None


def _interpreter(script: str) -> str | None:
    """The Python interpreter in the shebang of an installed script."""
    try:
        with open(script, encoding="utf-8") as file:
            head = file.read(512)
    except (OSError, UnicodeDecodeError):
        return None
    # pip writes the second form for paths too long for a shebang.
    found = re.match(r"#!(\S*python\S*)\s*\n", head) or re.match(
        r"#!/bin/sh\n'''exec' \"?([^\"\n]+?)\"? ", head
    )
    return found[1] if found else None


def _read_flags(cli: Path) -> dict[str, bool]:
    """Flags of ``serve api_server``, parsed from its source; empty if its structure is not the known one."""
    try:
        serve, helpers = (
            ast.parse((cli / name).read_text(encoding="utf-8")) for name in ("serve.py", "utils.py")
        )
    except (OSError, SyntaxError):
        return {}
    functions = {
        node.name: node
        for tree in (helpers, serve)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
    }
    flags: dict[str, bool] = {}
    if (adder := functions.get("add_parser_api_server")) is not None:
        flags.update(_added_flags(adder))
        for call in _calls(adder):
            if ast.unparse(call.func).startswith("ArgumentHelper."):
                name = ast.unparse(call.func).partition(".")[2]
                if name in functions:
                    flags.update(_added_flags(functions[name]))
    return flags


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def _added_flags(function: ast.AST) -> Iterator[tuple[str, bool]]:
    for call in _calls(function):
        if not (isinstance(call.func, ast.Attribute) and call.func.attr == "add_argument"):
            continue
        actions = [keyword.value for keyword in call.keywords if keyword.arg == "action"]
        takes_value = not any("store_" in ast.unparse(action) for action in actions)
        for argument in call.args:
            if isinstance(argument, ast.Constant) and str(argument.value).startswith("--"):
                yield str(argument.value)[2:], takes_value


def check_flags(given: object) -> dict[str, Any]:
    """Return `given`, the value of ``serve_cfg``, as a dict of flags.

    Raises:
        InvalidArgument: `given` is not a mapping.
    """
    if not isinstance(given, Mapping):
        raise InvalidArgument(
            f"serve_cfg={given!r}: allowed is a dict of flags such as {{'max_batch_size': 64}}",
            argument="serve_cfg",
        )
    return dict(given)


def flag_arguments(given: Mapping[str, Any], known: Mapping[str, bool] | None) -> list[str]:
    """Turn the flags of ``serve_cfg`` into command-line arguments.

    Args:
        given: Flag name (with dashes or underscores) to value. True adds a flag without a value, False and
            None omit the flag, a list gives several values, a dict becomes JSON (for ``adapters``:
            NAME=PATH pairs).
        known: See `Installation.flags`.

    Raises:
        InvalidArgument: A flag is unknown, is a constructor argument, or has a value of the wrong type.
    """
    arguments: list[str] = []
    for name, value in given.items():
        flag = str(name).lstrip("-").replace("_", "-")
        if flag in _RESERVED_FLAGS:
            raise _flag_error(name, f"give it as the argument {_RESERVED_FLAGS[flag]}=")
        if known is not None and flag not in known:
            near = difflib.get_close_matches(flag, known, n=3, cutoff=0.4)
            hint = f"; the nearest are {', '.join(item.replace('-', '_') for item in near)}" if near else ""
            raise _flag_error(name, f"this lmdeploy's api_server has no flag --{flag}{hint}")
        takes_value = not isinstance(value, bool) if known is None else known[flag]
        if takes_value:
            arguments += _value_arguments(flag, value)
        elif not (value is None or isinstance(value, bool)):
            raise _flag_error(name, f"--{flag} takes no value: allowed is True or False, not {value!r}")
        elif value:
            arguments.append(f"--{flag}")
    return arguments


def _value_arguments(flag: str, value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, Mapping):
        value = [f"{key}={item}" for key, item in value.items()] if flag == "adapters" else json.dumps(value)
    if isinstance(value, (list, tuple)):
        return [f"--{flag}", *map(str, value)]
    return [f"--{flag}={int(value) if isinstance(value, bool) else value}"]


def _flag_error(name: object, reason: str) -> InvalidArgument:
    return InvalidArgument(f"serve_cfg[{name!r}]: {reason}", argument="serve_cfg")
