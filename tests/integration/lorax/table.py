"""Run the scenarios with every client; print the table of docs/lorax.md.

python -m tests.integration.lorax.table [--write]
"""

import json
import os
import re
import subprocess
import sys

from tests import lorax_peer

from .conftest import SMALL

ROOT = lorax_peer.ROOT
DOCS = ROOT / "docs" / "lorax.md"
BEGIN, END = "<!-- clients: begin -->", "<!-- clients: end -->"
NAMES = ("ours", "lorax-client", "huggingface_hub")
KINDS = [name + mode for name in NAMES for mode in ("", " async")]


def python_of(kind):
    """Return the Python of the environment with the client."""
    if kind.startswith("ours"):
        return sys.executable
    env = {"PYTHON": sys.executable, **os.environ}
    subprocess.run(["sh", str(ROOT / "scripts" / "peer"), "lorax-clients"], check=True, env=env)
    return str(ROOT / ".venv-lorax-clients" / "bin" / "python")


def outcomes(kind, url, small_url):
    """Run all scenarios with one client; return their outcomes."""
    command = [
        python_of(kind),
        "-W",
        "ignore",
        "-m",
        "tests.integration.lorax.scenarios",
        kind,
        url,
        small_url,
    ]
    env = {**os.environ, "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def render(found):
    """Return ``{kind: {scenario: outcome}}`` as a Markdown table."""
    lines = ["| | " + " | ".join(NAMES) + " |", "|---" * 4 + "|"]
    for scenario in found["ours"]:
        cells = [_cell(found[name][scenario], found[name + " async"][scenario]) for name in NAMES]
        lines.append(f"| {scenario} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(sync, asynchronous):
    sync, asynchronous = (words.replace("|", "\\|").replace("<", "&lt;") for words in (sync, asynchronous))
    return sync if sync == asynchronous else f"{sync}; async: {asynchronous}"


def written():
    """Return the table in the docs."""
    return DOCS.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0].strip()


def verdicts(table):
    """Return for each row of a table which cells are "pass"; error texts are ignored."""
    rows = [re.split(r"(?<!\\) \| ", line.strip("| ")) for line in table.splitlines()[2:]]
    return {row[0]: [cell == "pass" for cell in row[1:]] for row in rows}


def main():
    with lorax_peer.server() as peer, lorax_peer.served(*SMALL) as small:
        table = render({kind: outcomes(kind, peer.url, small.url) for kind in KINDS})
    print(table)
    if "--write" in sys.argv:
        text = DOCS.read_text(encoding="utf-8")
        before, _, rest = text.partition(BEGIN)
        DOCS.write_text(f"{before}{BEGIN}\n{table}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
