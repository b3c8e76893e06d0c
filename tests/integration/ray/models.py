"""Scripted models for actors: each answer has the process that gave it, after a pause."""

import os

from lagent_llms import ConfigError, ServerError
from lagent_llms.testing import AsyncScriptedLLM, ScriptedLLM


def _script(pause):
    if pause < 0:
        raise ConfigError(f"pause={pause}: there is no such pause on this node")

    failed = set()

    def answer(request):
        if request.prompt == "flaky" and not failed:
            failed.add(request.prompt)
            return [ServerError("busy", status_code=503)]
        if request.prompt == "unlucky":
            return [ServerError("no answer to this", status_code=400)]
        prompt = request.prompt.replace("<|", "<")  # no stop word
        return [pause, f"{os.getpid()} {prompt} {request.params.max_new_tokens}"]

    return answer


class Echo(ScriptedLLM):
    """Answers after `pause` seconds with the process, the prompt and max_new_tokens."""

    def __init__(self, pause: float = 0.0, **kwargs):
        super().__init__(_script(pause), **kwargs)


class AsyncEcho(AsyncScriptedLLM):
    """The asynchronous twin of `Echo`."""

    def __init__(self, pause: float = 0.0, **kwargs):
        super().__init__(_script(pause), **kwargs)
