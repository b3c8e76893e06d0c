import inspect
import pickle

import pytest

from lagent_llms import errors
from lagent_llms.errors import (
    BatchError,
    LLMError,
    MissingDependency,
    ModelStatusCode,
    RateLimited,
    ServerStartError,
    StreamInterrupted,
    nearest,
)

CLASSES = [item for item in vars(errors).values() if inspect.isclass(item) and issubclass(item, LLMError)]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_error_pickles_with_its_attributes(cls):
    names = [name for name in inspect.signature(cls).parameters if name != "message"]
    error = cls("what happened", **{name: [1] if name == "results" else name for name in names})
    error.partial = "so far"
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is cls
    assert copy.args == ("what happened",)
    assert vars(copy) == vars(error)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_error_has_a_negative_status_and_is_public(cls):
    assert cls.status < 0
    assert cls.__name__ in errors.__all__
    assert isinstance(cls.status, ModelStatusCode)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_the_docstring_lists_every_error(cls):
    assert cls.__name__ in errors.__doc__


def test_status_codes_are_lagents():
    assert {code.name: code.value for code in ModelStatusCode} == {
        "END": 0,
        "STREAM_ING": 1,
        "SESSION_READY": 2,
        "SERVER_ERR": -1,
        "SESSION_CLOSED": -2,
        "SESSION_OUT_OF_LIMIT": -3,
        "SESSION_INVALID_ARG": -4,
    }


def test_errors_derive_from_the_matching_builtin_exceptions():
    assert issubclass(errors.InvalidArgument, ValueError)
    assert issubclass(errors.UnknownParameter, TypeError)
    assert issubclass(errors.MissingDependency, ImportError)
    assert issubclass(errors.TimeoutExceeded, TimeoutError)


def test_attributes_of_errors():
    assert RateLimited("slow down", status_code=429, retry_after=2.5).retry_after == 2.5
    assert StreamInterrupted("gone", partial="Hel").partial == "Hel"
    assert BatchError("one failed", index=1, results=["a", ValueError()]).results[0] == "a"
    assert "Traceback" in str(ServerStartError("it died", log_tail="Traceback …"))
    assert "pip install 'lagent_llms[jax]'" in str(MissingDependency.of("jax", "jax"))


def test_nearest():
    assert nearest("temprature", ["temperature", "top_p"]) == ", did you mean 'temperature'?"
    assert nearest("zzz", ["temperature"]) == ""
