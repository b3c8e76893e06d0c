"""Shared fixtures: one engine, one server over it, and polling."""

import time

import pytest

from lagent_llms import AsyncJAXPipeline
from lagent_llms.backends.jax.pipeline import EMBEDDED_MODEL
from lagent_llms.jax_engine import Engine
from lagent_llms.serving.app import openai_app
from lagent_llms.serving.host import Host


@pytest.fixture(scope="session")
def engine():
    with Engine.load(EMBEDDED_MODEL, max_slots=8) as engine:
        yield engine


@pytest.fixture(scope="session")
def server(engine):
    with Host(openai_app(AsyncJAXPipeline(engine=engine, temperature=0), "embedded")) as host:
        yield host


@pytest.fixture
def wait_until():
    def wait(condition, seconds=60):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "the condition did not come true in time"
            time.sleep(0.02)

    return wait
