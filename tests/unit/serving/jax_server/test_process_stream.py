"""Both forms of `process` on every supported CPython; this repository uses only the first form."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import lagent_llms
from lagent_llms import StreamInterrupted
from lagent_llms.serving.jax_server.process_stream import ProcessStream
from lagent_llms.testing import ScriptedLLM

ROOT = Path(lagent_llms.__file__).parents[1]
CLAIMED = re.findall(
    r'"Programming Language :: Python :: (3\.\d+)"', (ROOT / "pyproject.toml").read_text("utf-8")
)

# Each interpreter runs this with the standard library only, and each form often enough to be specialized.
FORMS = '''
import sys
from lagent_llms.serving.jax_server.process_stream import ProcessStream

class Answer:
    """Stands for core's stream, whose imports need more than the standard library on Python 3.10."""
    completion = object()
    def __init__(self): self.steps = iter([(1, "Hel", 1), (0, "Hello", None), (0, "Hello", 2)])
    def __next__(self): return next(self.steps)

def process(): return ProcessStream(Answer())

PAIRS, LAST = [("Hel", 1), ("Hello", 0), ("Hello", 2)], ("Hello", 2)

def assigned():
    text, n_tokens = process()
    return text, n_tokens

def assigned_in_brackets():
    [text, n_tokens] = answer = process()
    return text, n_tokens

class Holder: pass

def assigned_to_attributes():
    holder = Holder()
    holder.text, holder.n_tokens = process()
    return holder.text, holder.n_tokens

def looped():
    found = []
    for text, n_tokens in process():
        found.append((text, n_tokens))
    return found

async def unpacked_in_a_coroutine():
    text, n_tokens = process()
    return text, n_tokens

def in_a_coroutine():
    try: unpacked_in_a_coroutine().send(None)
    except StopIteration as end: return end.value

def check():
    for _ in range(200):
        assert assigned() == assigned_in_brackets() == assigned_to_attributes() == in_a_coroutine() == LAST
        assert looped() == list(process()) == [pair for pair in process()] == [*process()] == PAIRS
        assert [(text, n) for text, n in process()] == PAIRS
        assert process().result() == LAST
        stream = process()
        assert next(stream) == PAIRS[0] and stream.result() == LAST
    text, n_tokens = process()
    assert (text, n_tokens) == LAST

check()
def trace(frame, event, argument):
    frame.f_trace_opcodes = True
    return trace
sys.settrace(trace)
check()
sys.settrace(None)
if hasattr(sys, "monitoring"):  # what coverage tools use from Python 3.12 on
    events = sys.monitoring.events
    sys.monitoring.use_tool_id(0, "test")
    sys.monitoring.register_callback(0, events.INSTRUCTION, lambda code, offset: None)
    sys.monitoring.set_events(0, events.INSTRUCTION | events.LINE)
    check()
print("both forms")
'''


def interpreter(version):
    """Return a CPython of this version: the running one, from PATH or from pyenv; None if there is none."""
    if sys.version_info[:2] == tuple(map(int, version.split("."))):
        return sys.executable
    pyenv = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"))
    candidates = [*pyenv, shutil.which(f"python{version}")]
    for found in filter(None, candidates):
        if (
            subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode == 0
        ):  # skips a pyenv shim without a version
            return found
    return None


def test_both_forms_work_on_every_supported_python(record_property):
    assert CLAIMED[0] == "3.10"
    absent = []
    for version in CLAIMED:
        found = interpreter(version)
        if found is None:
            absent.append(version)
            continue
        # -I -S: neither the environment's packages nor its variables
        code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{FORMS}"
        done = subprocess.run([found, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "both forms\n"), f"Python {version}: {done.stderr}"
    record_property("absent", ", ".join(absent))
    print(f"interpreters that are absent: {', '.join(absent) or 'none'}")


def test_with_a_stream_of_the_core():
    llm = ScriptedLLM(["Hel", "lo"])
    text, n_tokens = ProcessStream(llm.stream_generate("x"))
    assert (text, n_tokens) == ProcessStream(llm.stream_generate("x")).result() == ("Hello", 2)
    assert list(ProcessStream(llm.stream_generate("x")))[-1] == ("Hello", 2)


def test_an_answer_closed_before_its_end_has_no_result():
    llm = ScriptedLLM(["Hel", "lo"])
    stream = ProcessStream(llm.stream_generate("x"))
    next(stream)
    stream.close()
    with pytest.raises(StreamInterrupted) as caught:
        stream.result()
    assert caught.value.partial == "Hel"
    assert llm.open == 0


def unpacked_calls(tree):
    """Yield the line numbers at which a `ProcessStream` is unpacked into several names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            name = getattr(node.value.func, "attr", "")
            if name in {"process", "stream_chat", "stream_instruct"} and isinstance(
                node.targets[0], (ast.Tuple, ast.List)
            ):
                yield node.lineno


@pytest.mark.parametrize("folder", ["lagent_llms", "examples", "benchmarks"])
def test_the_code_does_not_unpack_a_process_stream(folder):
    for path in (ROOT / folder).rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not list(unpacked_calls(ast.parse(text))), path
        if path.name != "process_stream.py":
            assert "f_lasti" not in text, path


def test_the_docs_use_result_instead_of_unpacking():
    for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for line in path.read_text(encoding="utf-8").splitlines():
            if re.search(r"\w+, \w+ = \w+\.(process|stream_chat|stream_instruct)\(", line):
                assert ".result()" in line, f"{path}: {line}"
