"""A server on a mesh of several virtual devices gives the same answers as on one device."""

import json
import os
import subprocess
import sys

import pytest

from lagent_llms import JAXServer
from lagent_llms.child.ports import check_port

SCRIPT = """
import json, sys, urllib.request
from lagent_llms import JAXServer

def ask(url, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, {"Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(request))

config = {"host": "127.0.0.1", "port": 0, "max_length": 256, **json.loads(sys.argv[1])}
with JAXServer.load(config=config) as server:
    server.fire()
    runner = server.engine._worker._runner
    answer = ask(server.url, "/instruct", {"prompt": "What is the capital of France?", "greedy": True})
    weights, cache = runner._weights.layers[0].qkv, runner._cache[0][0]
    print(json.dumps({
        "answer": answer,
        "status": ask(server.url, "/status"),
        "weights": len(weights.sharding.device_set),
        "part": weights.addressable_shards[0].data.size / weights.size,
        "cache": cache.addressable_shards[0].data.size / cache.size,
    }))
"""


def served(devices, **config):
    flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(config)],
        capture_output=True,
        text=True,
        timeout=400,
        env={**os.environ, **flags},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def expected():
    with JAXServer.load(config={"max_length": 256}) as server:
        return server.forward_instruct_non_api("What is the capital of France?", None, True)


@pytest.mark.parametrize(
    ("shape", "part", "cache"),
    [
        ((1, -1, 1), 1 / 4, 1),  # the default: all devices on "fsdp"
        ((1, 1, 3), 1 / 3, 1 / 3),  # three key-value heads
        ((2, 2, 1), 1 / 2, 1 / 2),
    ],
)
def test_a_mesh(expected, shape, part, cache):
    found = served(devices=4, mesh_axes_shape=shape)
    assert found["answer"] == expected
    assert found["status"]["number_of_backends"] == len(found["status"]["devices"]) == 4
    assert found["weights"] >= 3
    assert (found["part"], found["cache"]) == (pytest.approx(part), pytest.approx(cache))


def test_bf16(expected):
    found = served(devices=2, dtype="bf16", mesh_axes_shape=(1, -1, 1))
    assert found["answer"]["input"] == expected["input"]
    assert found["answer"]["response"] == "The capital of France is Paris."


HOSTS = """
import sys, jax
jax.distributed.initialize(sys.argv[1], num_processes=2, process_id=int(sys.argv[2]))
from lagent_llms import JAXServer

with JAXServer.load(config={"max_length": 256, "mesh_axes_shape": (1, -1, 1)}) as server:
    assert jax.device_count() == 4 and jax.local_device_count() == 2
    with open(sys.argv[3], "w") as answers:  # not stdout: XLA's threads write there as well
        for question in ("What is the capital of France?", "What is 2 + 3?")[int(sys.argv[2]):]:
            print(server.forward_instruct_non_api(question, None, True)["response"], file=answers)
    jax.experimental.multihost_utils.sync_global_devices("the end")
"""


def test_every_host_of_a_job_serves_independently(expected, tmp_path):
    """Two processes of one jax.distributed job, with different requests."""
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    coordinator = f"127.0.0.1:{check_port('127.0.0.1', 0)}"
    answers = [tmp_path / "first", tmp_path / "second"]
    hosts = [
        subprocess.Popen(
            [sys.executable, "-c", HOSTS, coordinator, str(number), str(file)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **flags},
        )
        for number, file in enumerate(answers)
    ]
    outputs = [host.communicate(timeout=400)[0] for host in hosts]
    assert [host.returncode for host in hosts] == [0, 0], outputs
    first, second = (file.read_text().splitlines() for file in answers)
    assert first[0] == expected["response"]
    assert first[1:] == second != []
