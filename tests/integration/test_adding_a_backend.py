"""The backend of docs/adding_a_backend.md is as short as documented and passes the conformance tests."""

import os
import re
import subprocess
import sys
from pathlib import Path

from lagent_llms.backends.jax.pipeline import EMBEDDED_MODEL

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "examples" / "adding_a_backend"


def test_the_backend_has_under_60_lines():
    lines = (PLUGIN / "transformers_llm.py").read_text(encoding="utf-8").splitlines()
    assert sum(1 for line in lines if line.strip()) < 60


def test_the_code_in_the_page_equals_the_files():
    page = (ROOT / "docs" / "adding_a_backend.md").read_text(encoding="utf-8")
    files = "".join(path.read_text(encoding="utf-8") for path in sorted(PLUGIN.glob("*.*")))
    blocks = re.findall(r"```(?:python|toml)\n(.*?)```", page, re.S)
    assert len(blocks) > 6
    assert [block for block in blocks if block not in files] == []


def test_the_installed_plugin_passes_the_conformance_tests(tmp_path):
    site, copy = tmp_path / "site", tmp_path / "plugin"
    copy.mkdir()
    for path in PLUGIN.glob("*.*"):
        (copy / path.name).write_bytes(path.read_bytes())
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", site, copy]
    subprocess.run(install, check=True, cwd=tmp_path)
    (copy / "transformers_llm.py").unlink()  # the installed copy is tested
    paths = {"PYTHONPATH": f"{site}{os.pathsep}{ROOT}", "MODEL_DIR": str(EMBEDDED_MODEL)}
    table = tmp_path / "promises.md"
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", copy]
    done = subprocess.run(
        [*pytest, "-p", "lagent_llms.testing.conformance.table", "--promises", table],
        cwd=tmp_path,
        env={**os.environ, **paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "| seed makes sampling repeatable | refused |" in table.read_text(encoding="utf-8")
