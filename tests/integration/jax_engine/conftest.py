"""Shared checkpoints and engines, and helpers that run a request."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from lagent_llms.jax_engine import Engine, Handle, SamplingParams, TokenEvent, TokenLogprobs
from lagent_llms.jax_engine.config import ModelConfig
from lagent_llms.jax_engine.model import compute_logits, forward, init_kv_cache, read_kv_cache
from lagent_llms.jax_engine.weights import load_weights

from . import checkpoints

WAIT = 120.0


class Result:
    """Collects the events of one request; passed as its `on_event`."""

    def __init__(self, watch: Callable[[TokenEvent], None] | None = None) -> None:
        self.events: list[TokenEvent] = []
        self.handle: Handle | None = None
        self._begun, self._done = threading.Event(), threading.Event()
        self._watch = watch

    def __call__(self, event: TokenEvent) -> None:
        self.events.append(event)
        if self._watch is not None:
            self._watch(event)
        self._begun.set()
        if event.finish_reason is not None or event.error is not None:
            self._done.set()

    def wait_begun(self) -> Result:
        assert self._begun.wait(WAIT), "the request did not begin"
        return self

    def wait(self) -> Result:
        assert self._done.wait(WAIT), "the request did not end"
        return self

    @property
    def ids(self) -> list[int]:
        return [token for event in self.events for token in event.token_ids]

    @property
    def logprobs(self) -> list[TokenLogprobs]:
        return [item for event in self.events for item in event.logprobs]

    @property
    def last(self) -> TokenEvent:
        return self.events[-1]


def start(engine: Engine, prompt: Sequence[int], watch: Any = None, **params: Any) -> Result:
    """Submit a request, greedy by default; return its `Result`."""
    result = Result(watch)
    result.handle = engine.submit(prompt, SamplingParams(**({"temperature": 0.0} | params)), on_event=result)
    return result


def run(engine: Engine, prompt: Sequence[int], **params: Any) -> Result:
    """Submit a request, wait for its end and return its `Result`."""
    return start(engine, prompt, **params).wait()


def logits(path: Path, prompt: Sequence[int], adapter: Path | None = None) -> Any:
    """Return the logits of the engine's network after each token of a prompt."""
    config = ModelConfig.from_directory(path)
    weights = load_weights(path, config, np.float32, adapter, lambda name, array: jnp.asarray(array))
    none, length = jnp.zeros(1, jnp.int32), len(prompt)
    block = read_kv_cache(init_kv_cache(config, 1, length, jnp.dtype("float32")), none, 0, length)
    hidden, _ = forward(config, weights, jnp.array([prompt]), none, block, 0, 0)
    return np.asarray(compute_logits(config, weights, hidden[0]))


def prompt_of(length: int, salt: int = 0) -> list[int]:
    """Return a BOS followed by pseudo-random tokens."""
    return [1] + [(index * 37 + salt * 101 + index * index * 7) % 300 + 5 for index in range(length - 1)]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the checkpoint of a kind (`checkpoints.KINDS` or 'internlm2'), created once."""
    made: dict[str, Path] = {}

    def get(kind: str) -> Path:
        if kind not in made:
            path = tmp_path_factory.mktemp("models") / kind
            if kind == "internlm2":
                made[kind] = checkpoints.rename_to_internlm2(get("llama"), path)
            else:
                made[kind] = checkpoints.make(kind, path)
        return made[kind]

    return get


@pytest.fixture(scope="session")
def load(checkpoint: Callable[[str], Path]) -> Iterator[Callable[..., Engine]]:
    """Load an engine for the checkpoint of a kind; all engines are closed at the end of the run."""
    engines: list[Engine] = []

    def make(kind: str = "llama", **options: Any) -> Engine:
        engines.append(Engine.load(checkpoint(kind), **options))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


@pytest.fixture(scope="session")
def engine(load: Callable[..., Engine]) -> Engine:
    """A shared Llama engine with 4 slots; every test must leave it idle."""
    return load("llama", max_slots=4)


@pytest.fixture
def copy(checkpoint: Callable[[str], Path], tmp_path: Path) -> Callable[..., Path]:
    """Return a function that copies the checkpoint of a kind, changes its config.json and its tensors."""

    def make(kind: str = "llama", drop: Sequence[str] = (), **changes: Any) -> Path:
        path = shutil.copytree(checkpoint(kind), tmp_path / "copy")
        data = json.loads((path / "config.json").read_text()) | changes
        data = {key: value for key, value in data.items() if key not in drop}
        (path / "config.json").write_text(json.dumps(data))
        return path

    return make
