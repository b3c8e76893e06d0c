"""The peer cleans up after every kind of exit, starts from the command line, and doctor lists its models."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import triton_peer
from tests.integration.lmdeploy.questions import FRANCE, PARIS
from tests.triton_peer import ROOT, wait_until

SCRIPT = """
import sys, time
from tests import triton_peer
from tests.integration.lmdeploy.questions import FRANCE, PARIS
from lagent_llms import TritonClient

with triton_peer.served(["trtllm-scripted"]) as peer:
    stream = TritonClient(peer.grpc, "trtllm-scripted").stream_generate("[[tokens 500]] [[slow 0.05]]")
    next(stream)
    print(peer.pid, peer.directory, flush=True)
    time.sleep(600)
"""


def remains_of(name):
    """Return the processes and files of the server in the directory `name`."""
    found = [str(path) for path in Path("/dev/shm").glob(f"{name}*")]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if name in line:
                found.append(line)
    return found + [str(path) for path in Path("/tmp").glob(name)]


def with_interrupts():
    """A test run in the background ignores SIGINT, which its child processes would inherit."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("victim", ["owner", "tritonserver", "none"])
def test_no_process_or_file_is_left(victim):
    command = [sys.executable, "-c", SCRIPT]
    owner = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, preexec_fn=with_interrupts)
    pid, directory = owner.stdout.readline().split()
    name = Path(directory).name
    assert len(remains_of(name)) > 3  # the server, its stub and files in /dev/shm, while it generates
    if victim == "tritonserver":
        os.kill(int(pid), signal.SIGKILL)
    owner.send_signal(signal.SIGKILL if victim == "owner" else signal.SIGINT)
    owner.wait(60)
    owner.stdout.close()
    assert wait_until(lambda: remains_of(name) == [], seconds=60), remains_of(name)


def test_command_line_starts_the_peer():
    triton_peer.environment()
    script = ["sh", "scripts/run-peer", "triton", "--models", "llmapi"]
    peer = subprocess.Popen(script, cwd=ROOT, stdout=subprocess.PIPE, text=True, preexec_fn=with_interrupts)
    try:
        line = peer.stdout.readline()
        assert line.startswith("gRPC at 127.0.0.1:")
        address = line.split()[2].rstrip(",")
        from lagent_llms import TritonClient

        with TritonClient(address) as llm:
            assert llm.models() == ["llmapi"]
            assert llm.generate("[[say hello]]") == "hello"
    finally:
        peer.send_signal(signal.SIGINT)
        peer.wait(60)
        peer.stdout.close()
    time.sleep(0)


def doctor(*arguments):
    command = [sys.executable, "-c", "from lagent_llms.cli import main; main()", "doctor", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_doctor_lists_the_models(tmp_path):
    config = tmp_path / "llm.yaml"
    with triton_peer.served(["llmapi", "vllm-scripted"]) as peer:
        config.write_text(f"type: TritonClient\ntritonserver_addr: {peer.grpc}\nmodel_name: llmapi\n")
        found = doctor("--config", str(config))
        assert found.returncode == 0, found.stdout + found.stderr
        assert "llmapi, vllm-scripted" in found.stdout
    gone = doctor("--config", str(config))
    assert gone.returncode == 1
    assert "cannot connect" in gone.stdout


def test_the_example():
    with triton_peer.served(["vllm"]) as peer:
        command = [sys.executable, "examples/triton_client.py", peer.grpc, "vllm", FRANCE[0]["content"]]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["vllm has the dialect vllm; the server has vllm", PARIS], done.stderr
