"""The code in the README runs unchanged."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lagent_llms.config import load_config
from lagent_llms.registry import find_backend

README_PATH = Path(__file__).parents[2] / "README.md"
MODELS = README_PATH.parent / "lagent_llms" / "models"
README = README_PATH.read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
BEFORE = "from lagent_llms import create_llm\nllm = create_llm()\n"


NEEDS_LMDEPLOY = [code for code in PYTHON if "lagent_llms[lmdeploy]" in code]
RUNS = [code for code in PYTHON if code not in NEEDS_LMDEPLOY]


@pytest.mark.parametrize("code", NEEDS_LMDEPLOY)
def test_examples_that_cannot_run_here_use_existing_arguments(code):
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    assert calls
    for call in calls:
        cls = find_backend(call.func.id)
        assert {keyword.arg for keyword in call.keywords} <= cls.constructor_names()


@pytest.mark.parametrize("code", RUNS, ids=[code.split("\n")[0][:60] for code in RUNS])
def test_examples(code):
    model = repr(str(MODELS / "embedded")) if "HFTransformers" in code else "None"
    code = code.replace('"path/to/model"', model).replace(
        "path/to/adapter", str(MODELS / "adapters" / "french")
    )
    done = subprocess.run(
        [sys.executable, "-c", BEFORE + code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_DISABLE_PROGRESS_BARS": "1"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    if "France" in code:
        assert done.stdout.startswith("The capital of France is Paris.\n")


def test_the_example_of_the_page_on_tools():
    page = README_PATH.parent / "docs" / "tools.md"
    code = "".join(re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "231 * 17 = 3927.\n" * 2


def test_the_examples_of_the_pages_on_sessions_and_observability(tmp_path):
    pages = [README_PATH.parent / "docs" / f"{name}.md" for name in ("sessions", "observability")]
    code = "".join(
        "".join(re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL))
        for page in pages
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(README_PATH.parent)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == lines[3] == "Your name is Alice."
    assert lines[1:3] == ["The capital of France is Paris.", "7 messages"]
    assert lines[4].startswith("2 ")
    assert "embedded UsageTotals(calls=2, errors=0" in done.stdout
    assert "gen_ai.client.operation.time_to_first_chunk s\n" in done.stdout
    assert 'gen_ai_client_token_usage_count{gen_ai_operation_name="chat"' in done.stdout


def test_the_configuration(tmp_path, monkeypatch):
    monkeypatch.setenv("MODEL_DIR", "/models/mine")
    (text,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    path = tmp_path / "llm.yaml"
    path.write_text(text, encoding="utf-8")
    for profile in yaml.safe_load(text)["profiles"]:
        settings, _ = load_config(path, profile=profile)
        known = find_backend(settings.pop("type")).constructor_names()
        assert set(settings) <= known
