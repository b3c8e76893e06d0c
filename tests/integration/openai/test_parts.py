"""Images, audio and files have the types of the openai package; the program of docs/multimodal.md runs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from lagent_llms import OpenAIClient
from tests.scripted_server import ScriptedServer
from tests.unit.test_media import PNG, WAV

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "multimodal.md").read_text(encoding="utf-8")
#: Checks parts against the package's types, their names of fields too, and prints the types.
CHECK = """
import json, sys
from openai.types.chat import ChatCompletionContentPartParam
from pydantic import TypeAdapter

parts = json.load(sys.stdin)
checked = TypeAdapter(list[ChatCompletionContentPartParam]).validate_python(parts, strict=True)
assert checked == parts, checked
print(*[part["type"] for part in parts])
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with the files of the page."""
    for name, data in (("cat.png", PNG), ("question.wav", WAV), ("report.pdf", b"%PDF-1.7\n")):
        (tmp_path / name).write_bytes(data)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_parts_have_the_types_of_the_openai_package(folder):
    content = [
        {"type": "text", "text": "What?"},
        {"type": "image", "image": Image.new("RGB", (2, 2))},
        {"type": "image_url", "image_url": {"url": folder / "cat.png", "detail": "low"}},
        {"type": "audio", "audio": folder / "question.wav"},
        {"type": "file", "file": folder / "report.pdf"},
        {"type": "file", "file": {"file_id": "file-1"}},
    ]
    llm = OpenAIClient("http://host", "m", flavour="openai")
    call = llm.answer_call(llm.prepare([{"role": "user", "content": content}], {}).request, "m")
    parts = json.loads(call.request.body)["messages"][0]["content"]
    subprocess.run(
        ["sh", ROOT / "scripts" / "peer", "openai-clients"],
        check=True,
        env={"PYTHON": sys.executable, **os.environ},
    )
    done = subprocess.run(
        [ROOT / ".venv-openai-clients" / "bin" / "python", "-c", CHECK],
        input=json.dumps(parts),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["text", "image_url", "image_url", "input_audio", "file", "file"]


def test_the_page(folder, capsys):
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    with ScriptedServer(lambda connection: connection.answer("Colours.")) as server:
        exec(program.replace("http://127.0.0.1:8000", server.url), {})
    printed = capsys.readouterr().out
    assert printed.startswith("Colours.\n")
    assert "a part of type 'file': it takes text, audio_url, image_url, input_audio, video_url" in printed
    first, second, third = [request.body["messages"] for request in server.requests]
    assert [part["type"] for part in first[0]["content"]] == ["text", "image_url", "image_url", "image_url"]
    assert second[0]["content"][0]["input_audio"]["format"] == "wav"
    assert third == [
        *second,
        {"role": "assistant", "content": "Colours."},
        {"role": "user", "content": "Say it in French."},
    ]
