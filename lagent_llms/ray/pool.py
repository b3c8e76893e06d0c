"""A pool of actors that each hold the backend of a configuration: its checks, and its size on a cluster."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .. import validators
from ..config import Source, check_config, create_llm
from ..core.parameters import ParameterSet
from ..errors import ConfigError
from ..params import CallOptions, GenerationParams
from ..registry import BACKENDS

__all__ = ["ActorPool", "check_backend"]

_count = validators.integer("an integer of 1 or more", 1)
_share = validators.number("a number of 0 or more", 0)
#: Tasks of Ray that run in an actor at once, so that its calls do not wait for the slowest row of one.
_TASKS = 8
#: Calls at once in an actor, as far as the rows that it is given are concerned, where no number is given.
_USUAL_CONCURRENCY = 64


def check_backend(config: Source | None, *, profile: str | None, **overrides: Any) -> dict[str, Any]:
    """The configuration for the actors, checked as far as that is possible without a model.

    References to the environment are replaced by what they are here, on the driver.

    Raises:
        LLMError: The configuration cannot be used.
    """
    cls, settings, _ = check_config(config, profile=profile, asynchronous=True, **overrides)
    parameters = ParameterSet(cls.__name__, cls.unsupported_names())
    given = {name: value for name, value in settings.items() if name in parameters.known}
    parameters.merge(GenerationParams(), CallOptions(), given)
    settings["type"] = cls
    backend = BACKENDS.get(cls.__name__.removeprefix("Async"))
    if backend is not None and backend.remote:  # cheap to make: it connects when it is called
        create_llm({**settings, "type": cls.__name__.removeprefix("Async")}).close()
    return settings


@dataclass
class ActorPool:
    """How many actors there are, and what each of them needs.

    Args:
        actors: Their number; a pair is the least and the most, between which Ray Data scales.
        num_cpus: CPUs of each.
        num_gpus: GPUs of each.
        resources: Further resources of each, by name.
        max_concurrency: Most calls at once in each, or 'auto', which finds at most 128; None is that of the
            backend.

    Raises:
        InvalidArgument: A value cannot be used.
    """

    actors: int | tuple[int, int] = 1
    num_cpus: float = 1
    num_gpus: float = 0
    resources: Mapping[str, float] | None = None
    max_concurrency: int | Literal["auto"] | None = None
    least: int = field(init=False)
    most: int = field(init=False)

    def __post_init__(self) -> None:
        pair = self.actors if isinstance(self.actors, (tuple, list)) else (self.actors, self.actors)
        if len(pair) != 2:
            raise validators.refusal("actors", self.actors, "a number, or the least and the most")
        self.least, self.most = (_count("actors", one) for one in pair)
        if self.least > self.most:
            raise validators.refusal("actors", self.actors, "a least number that is not above the most")
        self.num_cpus = _share("num_cpus", self.num_cpus)
        self.num_gpus = _share("num_gpus", self.num_gpus)
        validators.optional(validators.concurrency)("max_concurrency", self.max_concurrency)

    @property
    def needs(self) -> dict[str, float]:
        """What an actor needs, by Ray's names."""
        needs = {"CPU": self.num_cpus, "GPU": self.num_gpus, **(self.resources or {})}
        return {name: amount for name, amount in needs.items() if amount}

    def concurrency(self, settings: Mapping[str, Any]) -> int:
        """Most calls at once in an actor with a backend of `settings`."""
        found = self.max_concurrency or settings.get("max_concurrency")
        return found if isinstance(found, int) else _USUAL_CONCURRENCY

    def task_rows(self, settings: Mapping[str, Any]) -> int:
        """Rows of a task: the tasks of an actor have twice the rows that it calls at once."""
        return math.ceil(2 * self.concurrency(settings) / _TASKS)

    def most_tasks(self, settings: Mapping[str, Any]) -> int:
        """Tasks that keep all actors busy, with some to spare for the faster ones."""
        return 4 * self._tasks(settings) * self.most

    def _tasks(self, settings: Mapping[str, Any]) -> int:
        """Tasks that run in an actor at once."""
        return math.ceil(2 * self.concurrency(settings) / self.task_rows(settings))

    def options(self, worker: type, settings: Mapping[str, Any], *arguments: Any) -> dict[str, Any]:
        """Arguments of `Dataset.map_batches` that make the actors.

        Args:
            worker: Their class; its first arguments are `settings`, the concurrency and the CPUs.
            settings: The configuration of the backend.
            arguments: Its further arguments.
        """
        from ray.data import ActorPoolStrategy

        tasks = self._tasks(settings)
        return {
            "fn": worker,
            "fn_constructor_args": (dict(settings), self.max_concurrency, self.num_cpus, *arguments),
            "compute": ActorPoolStrategy(
                min_size=self.least,
                max_size=self.most,
                max_concurrent_calls_per_actor=tasks,
                max_tasks_in_flight_per_actor=tasks,
            ),
            "num_cpus": self.num_cpus,
            "num_gpus": self.num_gpus or None,
            "resources": dict(self.resources) if self.resources else None,
            "batch_format": "pyarrow",
            "udf_modifying_row_count": False,
        }

    def room(self) -> list[int]:
        """How many of these actors each living node has room for, other jobs left aside."""
        import ray

        return [
            min(int(node["Resources"].get(name, 0) / amount) for name, amount in self.needs.items())
            if self.needs
            else self.most
            for node in ray.nodes()
            if node["Alive"]
        ]

    def check_room(self) -> None:
        """Refuse a pool that does not fit the cluster: Ray would wait for further nodes without end.

        Raises:
            ConfigError: There is not enough room.
        """
        if (found := sum(self.room())) < self.least:
            needs = ", ".join(f"{amount:g} {name}" for name, amount in self.needs.items())
            raise ConfigError(
                f"actors={self.actors!r}: the cluster has room for {found} actors with {needs} each; start "
                "more nodes or ask for fewer actors (on a cluster that grows by itself: actors=(1, MOST))"
            )
