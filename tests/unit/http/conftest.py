"""Fixtures: a scripted server with a client of either kind, and a self-signed certificate."""

import ssl
import subprocess

import pytest

from lagent_llms import AsyncLMDeployClient, LMDeployClient
from lagent_llms.testing.conformance import Caller
from tests.scripted_server import ScriptedServer


@pytest.fixture(autouse=True)
def long_drain_timeouts(monkeypatch):
    """Raise the drain timeouts to 1 s, since the test server competes for the same CPU."""
    monkeypatch.setattr("lagent_llms.http.sync_pool._DRAIN_TIMEOUT", 1.0)
    monkeypatch.setattr("lagent_llms.http.session_client._DRAIN_TIMEOUT", 1.0)
    monkeypatch.setattr("lagent_llms.http.async_session._REUSE_TIMEOUT", 1.0)


@pytest.fixture(params=[LMDeployClient, AsyncLMDeployClient], ids=["sync", "async"])
def connect(request):
    """Factory of a scripted server and a client connected to it."""
    made = []

    def connect(script, url=None, **kwargs):
        server = ScriptedServer(script)
        client = Caller(request.param(url or server.url, "m", **{"max_retries": 0, **kwargs}))
        made.extend((client, server))
        return client, server

    yield connect
    for one in made:
        one.close()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """The path of a certificate for 127.0.0.1 and model.test, and a server's `ssl.SSLContext` with it."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    names = ["-subj", "/CN=model.test", "-addext", "subjectAltName=DNS:model.test,IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names]
    subprocess.run([*command, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    return cert, context
