"""Faults that tests trigger by words in the prompt, such as ``[[error 5]]``.

=============  =====================================================================================
``error N``    the engine fails after N tokens: an error chunk in the stream
``stop N``     the engine reports that it has stopped, after N tokens (503 when nothing was sent yet)
``cut N``      the connection is closed after N tokens, without a final event
``end N``      the stream ends properly after N tokens, but without a finish_reason
``hang N``     nothing is sent after N tokens, until the request is cancelled
``crash N``    the server process is killed after N tokens
``first S``    the first token takes S seconds longer
``slow S``     every token takes S seconds longer; LMDEPLOY_CPU_SLOW=S does so for all requests
=============  =====================================================================================
"""

import asyncio
import os
import re
import signal

from lmdeploy.messages import EngineOutput, ResponseType

_MARK = re.compile(r"\[\[(error|stop|cut|end|hang|crash|first|slow) ?([\d.]*)\]\]")
_STATUS = {"error": ResponseType.INTERNAL_ENGINE_ERROR, "stop": ResponseType.ENGINE_STOP_ERROR}


class Cut(BaseException):
    """Closes the connection; not an `Exception`, which lmdeploy would turn into an error response."""


class Faults:
    """The faults in the prompt of one request."""

    def __init__(self, prompt):
        asked = {name: float(number or 0) for name, number in _MARK.findall(prompt)}
        self._first = asked.pop("first", 0.0)
        self._slow = asked.pop("slow", float(os.environ.get("LMDEPLOY_CPU_SLOW", "0")))
        self._asked = asked

    async def before(self, count):
        """Trigger the faults due before token number `count` (from 0).

        Returns:
            An EngineOutput to end with, or None.
        """
        if delay := self._slow + (self._first if count == 0 else 0):
            await asyncio.sleep(delay)
        for name, at in self._asked.items():
            if count < at:
                continue
            if name in _STATUS:
                return EngineOutput(_STATUS[name], [])
            if name == "cut":
                raise Cut
            if name == "end":
                raise asyncio.CancelledError
            if name == "crash":
                os.kill(os.getpid(), signal.SIGKILL)
            await asyncio.Event().wait()  # hang
        return None
