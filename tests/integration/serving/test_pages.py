"""The pages in a real browser, on the embedded model: submit, stream, stop, clear, close."""

import base64
import subprocess
import sys
import threading

import pytest

from lagent_llms import JAXServer
from lagent_llms.serving.jax_server.process_stream import ProcessStream
from lagent_llms.serving.limits import Limits

from .browser import DESKTOP, PHONE, Reader, chromium
from .test_command import serving
from .test_openai_api import ask

EVERYTHING = """<b>bold</b> <im_start> <script>document.title = "taken"</script>

```python
print("hello")
```

| a | b |
|---|---|
| 1 | 2 |

$$x^2$$

![picture](http://evil.example/?secret)
"""


class Talkative(JAXServer):
    """Ignores end tokens: every answer has the maximal length."""

    def process(self, string, greedy=False, max_new_tokens=None, *, temperature=None):
        if "break down" in string:
            return self.broken()
        if "everything" in string:
            return iter([(EVERYTHING, 9)])
        return self.begin(string, max_new_tokens)

    def begin(self, string, max_new_tokens):
        return ProcessStream(
            self._pipeline.stream_generate(
                string, max_new_tokens=max_new_tokens, temperature=0.0, ignore_eos=True
            )
        )

    def broken(self):
        yield "Half an ans", 4
        raise RuntimeError("a fault with a /secret/path")


class Endless(Talkative):
    """Restarts each answer at its end, so that a test can press Stop at any time."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.begun = []

    def begin(self, string, max_new_tokens):
        self.begun.append(Restarting(lambda: super(Endless, self).begin(string, max_new_tokens)))
        return self.begun[-1]

    def at_rest(self):
        """True if all answers are closed and the engine is idle, which it is between two answers as well."""
        return all(one.closed for one in self.begun) and self.engine.stats().slots_in_use == 0


class Restarting:
    """One answer after the other until it is closed."""

    def __init__(self, begin):
        self.begin, self.stream, self.closed = begin, begin(), False
        self.text, self.n_tokens, self.step = "", 0, ("", 0)

    def __iter__(self):
        return self

    def __next__(self):
        while (step := next(self.stream, None)) is None:
            if self.closed:
                raise StopIteration
            self.text, self.n_tokens = self.text + self.step[0], self.n_tokens + self.step[1]
            self.stream = self.begin()
            if self.closed:
                self.stream.close()
        self.step = step
        return self.text + step[0], self.n_tokens + step[1]

    def close(self):
        self.closed = True
        self.stream.close()


def config(**changes):
    return {"host": "127.0.0.1", "port": 0, "temperature": 0.0, **changes}


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def server():
    server = JAXServer.load(config=config(max_new_tokens=400))
    server.fire()
    yield server
    server.close()


@pytest.fixture(scope="module")
def endless():
    server = Endless.load(config=config(max_compile_tokens=1, max_new_tokens=400))
    server.fire()
    yield server
    server.close()


@pytest.fixture
def opened(browser):
    """Opens pages; fails the test if one logs errors or fetches from another host."""
    readers = []

    def opened(server, page, *args, **kwargs):
        readers.append(Reader(browser, f"{server.url}/gradio_{page}", *args, **kwargs))
        return readers[-1]

    yield opened
    for reader in readers:
        reader.close()
    assert [reader.complaints + reader.elsewhere for reader in readers] == [[] for _ in readers]


def test_a_dialog(server, opened):
    chat = opened(server, "chat")
    assert "What would you like to know?" in chat.page.inner_text("#answer")
    assert chat.answer("What is the capital of France?") == "The capital of France is Paris."
    assert "tokens" in chat.note()
    assert chat.page.input_value("#prompt textarea") == ""
    assert "Nora" in chat.answer("My name is Nora.")
    assert "Nora" in chat.answer("What is my name?")
    chat.page.fill("#prompt textarea", "What is the capital of France?")
    chat.forget_note()
    chat.page.press("#prompt textarea", "Enter")
    chat.note()
    assert chat.said() == "The capital of France is Paris."


def test_an_instruction(server, opened):
    instruct = opened(server, "instruct")
    assert instruct.answer("What is the capital of Norway?") == "The capital of Norway is Oslo."
    assert instruct.page.input_value("#prompt textarea") == "What is the capital of Norway?"


def test_the_pages_link_to_each_other(server, opened):
    reader = opened(server, "chat")
    reader.page.click("nav >> text=Instruct")
    reader.page.wait_for_url("**/gradio_instruct/")
    reader.page.wait_for_selector("#prompt textarea")
    reader.page.click("nav >> text=Chat")
    reader.page.wait_for_url("**/gradio_chat/")


@pytest.mark.parametrize("page", ["chat", "instruct"])
def test_advanced_options(server, opened, page):
    reader = opened(server, page)
    reader.option("system", "You are Luna, a helpful assistant.")
    reader.option("greedy", True)
    assert "Luna" in reader.answer("Who are you?")
    reader.option("max_new_tokens", 3)
    reader.answer("What is the capital of France?")
    assert reader.note() == "3 tokens"


@pytest.mark.parametrize("page", ["chat", "instruct"])
def test_an_answer_grows_and_stop_stops_the_engine(endless, opened, wait_until, page):
    reader, engine = opened(endless, page), endless.engine
    reader.ask("Tell me a story.")
    lengths = reader.several_lengths()
    assert lengths == sorted(set(lengths))
    assert reader.page.is_disabled("#submit")
    wait_until(lambda: engine.stats().slots_in_use == 1)
    reader.page.click("#stop")
    wait_until(endless.at_rest)
    written = engine.stats().completion_tokens
    assert reader.note().startswith("Stopped after ")
    kept = reader.said()
    assert len(kept) >= lengths[-1]
    reader.page.wait_for_selector("#submit:not([disabled])")
    assert reader.page.is_disabled("#stop")
    assert reader.said() == kept
    assert engine.stats().completion_tokens == written


@pytest.mark.parametrize("page", ["chat", "instruct"])
def test_clear_empties_the_page_and_stops_the_engine(endless, opened, wait_until, page):
    reader = opened(endless, page)
    reader.ask("Tell me a story.")
    reader.several_lengths(2)
    reader.page.fill("#prompt textarea", "And then?")
    reader.page.click("#clear")
    wait_until(endless.at_rest)
    wait_until(lambda: reader.said() == "")
    reader.page.wait_for_selector("#submit:not([disabled])")
    assert reader.page.input_value("#prompt textarea") == ""
    assert reader.page.inner_text("#note").strip() == ""
    reader.ask("Tell me a story.")  # the page still works
    reader.several_lengths(2)
    reader.page.click("#stop")
    reader.note()


def test_closing_the_page_stops_the_engine(endless, browser, wait_until):
    reader = Reader(browser, f"{endless.url}/gradio_chat")
    reader.ask("Tell me a story.")
    reader.several_lengths(2)
    reader.close()
    wait_until(endless.at_rest)
    written = endless.engine.stats().completion_tokens
    assert ask(endless, "/health")[0] == 200
    assert endless.engine.stats().completion_tokens == written


def test_visitors_do_not_stop_each_other(endless, opened, wait_until):
    first, second = opened(endless, "chat"), opened(endless, "chat")
    first.ask("Tell me a story.")
    second.ask("Tell me another story.")
    first.several_lengths(1)
    second.several_lengths(1)
    wait_until(lambda: endless.engine.stats().slots_in_use == 2)
    first.page.click("#stop")
    assert first.note().startswith("Stopped")
    wait_until(lambda: endless.engine.stats().slots_in_use == 1)
    second.several_lengths(2, longer=len(second.said()))
    second.page.click("#stop")
    wait_until(endless.at_rest)


@pytest.mark.parametrize("page", ["chat", "instruct"])
def test_an_invalid_message_is_reported(server, opened, page):
    reader = opened(server, page)
    reader.answer("  ")
    assert reader.note().startswith("Write a")
    too_long = "word " * 5000
    reader.answer(too_long)
    assert "too long" in reader.note()
    assert reader.page.input_value("#prompt textarea").strip() == too_long.strip()  # the text is kept
    assert "Paris" in reader.answer("What is the capital of France?")


def test_a_fault_during_an_answer_keeps_the_text(endless, opened, caplog):
    reader = opened(endless, "chat")
    assert reader.answer("Please break down.") == "Half an ans"
    assert "could not answer" in reader.note()
    assert "secret" not in reader.page.content()
    assert reader.page.is_enabled("#submit")


def test_an_answer_cannot_fetch_from_another_host(endless, browser):
    reader = Reader(browser, f"{endless.url}/gradio_chat")
    reader.answer("Show everything.")
    assert reader.page.wait_for_selector("#answer .bot-row code, #answer .bot-row pre").is_visible()
    reader.page.wait_for_selector("#answer .bot-row .katex")
    assert reader.page.title() != "taken"
    assert reader.page.query_selector("#answer img")
    (complaint,) = reader.complaints
    assert "evil.example" in complaint
    assert "blocked" in complaint
    assert reader.elsewhere == []
    reader.close()


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("size", [PHONE, DESKTOP])
@pytest.mark.parametrize("page", ["chat", "instruct"])
def test_nothing_is_wider_than_the_window(server, opened, page, size, dark):
    reader = opened(server, page, size, dark=dark)
    assert reader.overflow() <= 0
    reader.answer(f"Repeat: {'unbroken' * 20}")
    reader.option("greedy", True)
    assert reader.overflow() <= 0
    background = reader.page.evaluate(
        "getComputedStyle(document.querySelector('gradio-app')).backgroundColor"
    )
    shade = sum(int(part) for part in background[4:-1].split(",")[:3])
    assert shade < 150 if dark else shade > 600


def test_end_waits_for_generations_and_not_for_open_pages(browser):
    server = Talkative.load(config=config(max_compile_tokens=8, max_new_tokens=300))
    server.fire()
    reader = Reader(browser, f"{server.url}/gradio_chat")
    reader.ask("Tell me a story.")
    reader.several_lengths(1)
    ending = threading.Thread(target=server.end)
    ending.start()
    assert reader.note() == "300 tokens"
    ending.join(120)
    assert not ending.is_alive()
    assert server.url is None
    reader.close()
    server.fire()  # a restart
    reader = Reader(browser, f"{server.url}/gradio_chat")
    reader.ask("Tell me a story.")
    assert reader.note() == "300 tokens"
    reader.close()
    server.close()


def test_a_page_launched_alone(server, opened, browser):
    page = server.gradio_app_instruct
    assert page is server.gradio_app_instruct
    _, url, _ = page.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True)
    try:
        reader = Reader(browser, url)
        assert "Oslo" in reader.answer("What is the capital of Norway?")
        assert not reader.page.query_selector("nav")
        assert reader.complaints == []
        reader.close()
    finally:
        page.close(verbose=False)


@pytest.mark.parametrize("backend", ["JAXPipeline", "LMDeployClient"])
def test_the_served_backend_has_a_page(server, browser, tmp_path, backend):
    file = tmp_path / "llm.yaml"
    settings = f"url: {server.url}\nmodel_name: embedded\n" if backend == "LMDeployClient" else ""
    file.write_text(f"type: {backend}\ntemperature: 0\nmax_new_tokens: 40\n{settings}")
    with serving("--config", str(file), "--model", "embedded") as (url, banner):
        assert f"{url}/gradio_chat" in banner
        reader = Reader(browser, f"{url}/gradio_chat")
        assert reader.answer("What is the capital of France?") == "The capital of France is Paris."
        assert "Nora" in reader.answer("My name is Nora.")
        assert "Nora" in reader.answer("What is my name?")
        assert reader.complaints + reader.elsewhere == []
        reader.page.click("nav >> text=Instruct")
        reader.page.wait_for_url("**/gradio_instruct/")
        reader.page.wait_for_selector("#submit:not([disabled])")
        reader.option("system", "You are Luna, a helpful assistant.")
        assert "Luna" in reader.answer("Who are you?")
    reader.close()  # only now: the server stopped although the page was open


def test_the_api_key_is_the_password_of_a_page(server, browser):
    locked = JAXServer(server.engine, config(max_new_tokens=50), limits=Limits(api_key="pass:wörd"))
    locked.fire()
    for headers in ({}, {"Authorization": "Basic !"}, {"Authorization": "Basic bWU6d3Jvbmc="}):
        status, response_headers, _ = ask(locked, "/gradio_chat/", headers=headers)
        assert status == 401
        assert response_headers["www-authenticate"].startswith("Basic")
    sent = base64.b64encode("me:pass:wörd".encode()).decode()
    assert ask(locked, "/status", headers={"Authorization": f"Basic {sent}"})[0] == 401  # pages only
    reader = Reader(browser, f"{locked.url}/gradio_chat", password="pass:wörd")
    assert reader.answer("What is the capital of France?") == "The capital of France is Paris."
    assert reader.elsewhere == []
    reader.close()
    locked.end()


def test_a_server_without_pages(server):
    plain = JAXServer(server.engine, config())
    plain.fire(pages=False)
    assert ask(plain, "/gradio_chat/")[0] == 404
    assert ask(plain, "/status")[0] == 200
    plain.end()


def test_gradio_is_loaded_for_pages_only():
    code = "import sys, lagent_llms.serving.jax_server.server; print('gradio' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
