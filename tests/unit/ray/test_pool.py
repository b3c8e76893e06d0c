"""The checks of a pool of actors that need no cluster."""

import pytest

from lagent_llms import ConfigError, InvalidArgument, UnsupportedParameter
from lagent_llms.ray.pool import ActorPool, check_backend

SCRIPTED = "lagent_llms.testing.ScriptedLLM"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"actors": 0}, "actors=0: allowed is"),
        ({"actors": (1, 2, 3)}, r"actors=\(1, 2, 3\): allowed is a number, or the least and the most"),
        ({"actors": (3, 2)}, "not above the most"),
        ({"num_cpus": -1}, "num_cpus=-1: allowed is"),
        ({"num_gpus": "one"}, "num_gpus='one': allowed is"),
        ({"max_concurrency": 0}, "max_concurrency=0: allowed is"),
    ],
)
def test_values_that_are_refused(values, message):
    with pytest.raises(InvalidArgument, match=message):
        ActorPool(**values)


@pytest.mark.parametrize("concurrency", [1, 2, 3, 64, 1000])
def test_the_tasks_of_an_actor_hold_twice_the_rows_that_it_calls_at_once(concurrency):
    rows = ActorPool(max_concurrency=concurrency).task_rows({})
    assert 2 * concurrency <= 8 * rows < 2 * concurrency + 8


def test_the_backend_is_checked_and_its_references_replaced(monkeypatch):
    monkeypatch.setenv("LIMIT", "7")
    settings = check_backend({"type": SCRIPTED, "max_new_tokens": "${LIMIT}"}, profile=None, seed=1)
    assert settings.pop("type").__name__ == "AsyncScriptedLLM"
    assert settings == {"max_new_tokens": 7, "seed": 1}


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ({"type": "LMDeployClint"}, ConfigError, "did you mean 'LMDeployClient'"),
        ({"type": SCRIPTED, "scrpt": "x"}, ConfigError, "did you mean 'script'"),
        ({"type": SCRIPTED, "temperature": -1}, InvalidArgument, "temperature=-1: allowed is"),
        ({"type": SCRIPTED, "response_format": "json"}, UnsupportedParameter, "response_format"),
        ({"type": "LMDeployClient", "url": 3, "model_name": "m"}, InvalidArgument, "url=3"),
    ],
)
def test_configurations_that_are_refused_without_a_model(config, error, message):
    with pytest.raises(error, match=message):
        check_backend(config, profile=None)
