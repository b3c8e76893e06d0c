"""Run all benchmarks, or the named ones.

    python -m benchmarks [NAME ...] [--write] [--json FOLDER] [--quick]

``--write`` puts the tables into docs/benchmarks.md. Each can also be run alone: python -m benchmarks.NAME.
"""

from __future__ import annotations

import argparse
import pkgutil
import subprocess
import sys
from pathlib import Path

#: No benchmarks; `chat_templates` needs folders to compare.
HELPERS = {"__main__", "batch_clients", "batch_memory", "chat_templates", "lorax_server", "report"}


def main() -> None:
    found = [item.name for item in pkgutil.iter_modules([str(Path(__file__).parent)])]
    names = [name for name in found if name not in HELPERS]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(names)}; default: all")
    parser.add_argument("--json", type=Path, help="write the figures to this folder, one file per benchmark")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in names]:
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(names)}")
    flags = [flag for flag in ("--write", "--quick") if vars(options)[flag.strip("-")]]
    if options.json:
        options.json.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in options.names or names:  # one subprocess each, so that no benchmark inherits loaded modules
        print(f"\n== {name}", flush=True)
        target = ["--json", str(options.json / f"{name}.json")] if options.json else []
        command = [sys.executable, "-m", f"benchmarks.{name}", *flags, *target]
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
