"""Run a Python program with extra arguments read from standard input, so that no process list shows them.

Standard input holds a JSON list of strings. Run as a script by the interpreter the program is installed for;
uses the standard library only::

    python launcher.py -m MODULE ARGUMENT…        python launcher.py SCRIPT ARGUMENT…
"""

import json
import os
import runpy
import sys


def _main() -> None:
    hidden = json.load(sys.stdin)
    if sys.argv[1] == "-m":
        module, sys.argv = sys.argv[2], [sys.argv[2], *sys.argv[3:], *hidden]
        sys.path[0] = os.getcwd()
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        script, sys.argv = sys.argv[1], [*sys.argv[1:], *hidden]
        sys.path[0] = os.path.dirname(os.path.abspath(script))
        runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    _main()
