"""The backends of lmdeploy for the conformance tests: all objects of one backend use one shared peer."""

import sys
from contextlib import contextmanager

from lagent_llms import (
    AsyncLMDeployClient,
    AsyncLMDeployPipeline,
    AsyncLMDeployServer,
    LMDeployClient,
    LMDeployPipeline,
    LMDeployServer,
)
from lagent_llms.backends.jax.pipeline import EMBEDDED_MODEL
from lagent_llms.testing.conformance import BackendUnderTest
from tests import lmdeploy_peer as peers

from .shared_engine import SharedEngine

TEMPLATE = {"meta_template": "internlm2-lagent"}
#: Parameters that lmdeploy supports only in /v1/chat/completions, and the arguments that select this route.
CHAT_ROUTE_ONLY = {
    name: {"meta_template": None}
    for name in ("logprobs", "response_format", "min_new_tokens", "reasoning_effort")
}


class Client(BackendUnderTest):
    """Clients of one api_server."""

    defaults = TEMPLATE
    arguments_for = CHAT_ROUTE_ONLY

    def __init__(self, peer):
        self._peer = peer

    @property
    def config(self):
        return {"type": "LMDeployClient", "url": self._peer.url, "model_name": peers.NAME}

    def make(self, asynchronous, **kwargs):
        cls = AsyncLMDeployClient if asynchronous else LMDeployClient
        return cls(self._peer.url, peers.NAME, **kwargs)

    def connect(self, asynchronous, url, **kwargs):
        return (AsyncLMDeployClient if asynchronous else LMDeployClient)(url, "m", **kwargs)

    def running(self):
        return self._peer.running()


class Server(BackendUnderTest):
    """Servers that share the child process of the first one."""

    defaults = TEMPLATE
    arguments_for = CHAT_ROUTE_ONLY
    secrets = {"headers": {"X-Key": "sk-very-secret"}}

    def __init__(self):
        self.first = LMDeployServer(
            EMBEDDED_MODEL, peers.NAME, server_port=0, command=peers.command(), serve_cfg=peers.PYTORCH
        )
        self._peer = peers.Peer(
            self.first.url, self.first._child, {"Authorization": f"Bearer {self.first.api_key}"}
        )

    @property
    def config(self):
        """The configuration of a server with its own child process."""
        named = {"path": str(EMBEDDED_MODEL), "model_name": peers.NAME, "server_port": 0}
        return {"type": "LMDeployServer", **named, "command": peers.command(), "serve_cfg": peers.PYTORCH}

    def make(self, asynchronous, **kwargs):
        child = self.first._child

        class Shared(AsyncLMDeployServer if asynchronous else LMDeployServer):
            def _start_child(self):
                self._child = self.endpoints.child = _SharedChild(child)

        return Shared(
            EMBEDDED_MODEL,
            peers.NAME,
            server_port=self.first.server_port,
            api_key=self.first.api_key,
            command=peers.command(),
            **kwargs,
        )

    def running(self):
        return self._peer.running()


class _SharedChild:
    """A shared child process, which no single server stops."""

    def __init__(self, child):
        self._child = child
        self.last_line = ""

    def __getattr__(self, name):
        return getattr(self._child, name)

    def request_stop(self):
        pass

    stop = request_stop


class Pipeline(BackendUnderTest):
    """Pipelines on one engine of lmdeploy; runs where lmdeploy is installed."""

    defaults = TEMPLATE
    arguments_for = {"reasoning_effort": {"meta_template": None}}

    def __init__(self, backend):
        if not peers.REAL:
            sys.path.insert(0, str(peers.ROOT / "tests" / "peers" / "lmdeploy"))
            import cpu_engine

            cpu_engine.install()
        self.first = LMDeployPipeline(EMBEDDED_MODEL, peers.NAME, backend=backend)

    @property
    def config(self):
        """The configuration of a pipeline with its own engine."""
        return {"type": "LMDeployPipeline", "path": str(EMBEDDED_MODEL), "backend": self.first.backend}

    def make(self, asynchronous, **kwargs):
        shared = self.first

        class Shared(AsyncLMDeployPipeline if asynchronous else LMDeployPipeline):
            def _load(self, *args):
                return SharedEngine(shared._engine)

        return Shared(EMBEDDED_MODEL, **kwargs)

    def running(self):
        return self.first._engine._engine.session_mgr.request_handle_pool.num_dispatched


@contextmanager
def client():
    with peers.api_server() as peer:
        yield Client(peer)


@contextmanager
def server():
    subject = Server()
    yield subject
    subject.first.close()


@contextmanager
def pipeline(engine):
    subject = Pipeline(engine)
    yield subject
    subject.first.close()
