"""Every class of the real lagent.llms has a counterpart that takes its arguments, or a reason."""

import importlib
import json

import pytest

import lagent_llms
from lagent_llms.from_lagent import COUNTERPARTS, SAME_NAMES

#: Arguments of lagent's constructors that no backend here has; a hint or a table says what to use.
NOT_TAKEN = {"template_parser", "tokenizer_only", "path"}
LIST = """
import inspect, json, lagent.llms
print(json.dumps({
    name: [] if not inspect.isclass(found := getattr(lagent.llms, name)) else
    [item.name for item in inspect.signature(found).parameters.values() if item.kind != item.VAR_KEYWORD]
    for name in lagent.llms.__all__
}))
"""


@pytest.fixture(scope="module")
def classes(lagent):
    return json.loads(lagent("-c", LIST).splitlines()[-1])


def test_the_table_is_complete(classes):
    assert len(classes) > 20
    assert set(classes) <= {*SAME_NAMES, *COUNTERPARTS}
    assert set(SAME_NAMES) <= set(classes)


def test_counterparts_take_lagents_arguments(classes):
    compared = 0
    for name, arguments in classes.items():
        row = COUNTERPARTS.get(name)
        if row is None and "Client" not in name and "Server" not in name:
            continue  # the base classes, and pipelines, which need their packages
        if row is not None and row.module in ("", "vllm"):
            continue  # vLLM is not installed here
        if row is None:
            found = getattr(lagent_llms, name)
        else:
            found = getattr(importlib.import_module(f"lagent_llms.from_lagent.{row.module}"), name)
        allowed = NOT_TAKEN if row is None else set()
        assert set(arguments) - allowed <= found.constructor_names(), name
        compared += 1
    assert compared >= 9
