"""Open and operate a page in a real Chromium."""

import contextlib
import subprocess
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[3]
PHONE, DESKTOP = (390, 844), (1280, 800)
#: Longest wait of one step, in milliseconds.
TIMEOUT = 120_000


@contextlib.contextmanager
def chromium():
    """A headless Chromium."""
    found = subprocess.run(
        ["sh", str(ROOT / "scripts/browser")], check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=found, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


class Reader:
    """One open page.

    Args:
        browser: The browser.
        url: The page's URL.
        size: Width and height of the window, in pixels.
        dark: True prefers the dark colour scheme.
        sharp: True doubles the pixel density.
        password: The password for HTTP basic authentication; None sends none.

    Attributes:
        complaints: Errors and warnings of the page's console.
        elsewhere: URLs that the page fetched from other hosts.
    """

    def __init__(self, browser, url, size=DESKTOP, *, dark=False, sharp=False, password=None):
        self.context = browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if dark else "light",
            device_scale_factor=2 if sharp else 1,
            has_touch=size == PHONE,
            is_mobile=size == PHONE,
            http_credentials={"username": "me", "password": password} if password else None,
        )
        self.page = page = self.context.new_page()
        page.set_default_timeout(TIMEOUT)
        self.complaints, self.elsewhere = [], []
        home = "/".join(url.split("/")[:3])
        page.on(
            "console", lambda said: said.type in ("error", "warning") and self.complaints.append(said.text)
        )
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("requestfinished", lambda asked: self._reached(asked.url, home))
        page.on("requestfailed", lambda asked: asked.failure == "csp" or self._reached(asked.url, home))
        page.on("websocket", lambda socket: self._reached(socket.url, home))
        page.goto(url)
        page.wait_for_selector("#prompt textarea")
        page.wait_for_selector("#submit:not([disabled])")

    def _reached(self, url, home):
        if not url.startswith((home + "/", "data:", "blob:")):
            self.elsewhere.append(url)

    def ask(self, text):
        """Enter `text` and press Submit; do not wait for the answer."""
        self.page.fill("#prompt textarea", text)
        self.page.click("#submit")

    def answer(self, text):
        """Submit `text`, wait for the end and return the answer."""
        self.forget_note()
        self.ask(text)
        self.note()
        return self.said()

    def forget_note(self):
        """Mark the current note as old, so that `note` waits for the next one."""
        self.page.evaluate("document.querySelectorAll('#note p').forEach(p => p.classList.add('old'))")

    def note(self):
        """Wait for the next note, which marks the end of an answer."""
        return self.page.wait_for_selector("#note p:not(.old, .running)").inner_text()

    def said(self):
        """The text of the newest answer; '' if there is none."""
        return self.page.evaluate(
            """() => {
                const box = document.querySelector('#answer textarea')
                if (box) return box.value
                const all = document.querySelectorAll('#answer .bot-row .message-content')
                return all.length ? all[all.length - 1].innerText.trim() : ''
            }"""
        )

    def several_lengths(self, how_many=4, longer=0):
        """Lengths of the growing answer, in characters, each larger than the one before."""
        lengths = [longer]
        while len(lengths) <= how_many:
            self.page.wait_for_function(
                """longer => {
                    const box = document.querySelector('#answer textarea')
                    const all = document.querySelectorAll('#answer .bot-row .message-content')
                    return (box ? box.value : all.length ? all[all.length - 1].innerText : '').length > longer
                }""",
                arg=lengths[-1],
            )
            lengths.append(len(self.said()))
        return lengths[1:]

    def option(self, name, value):
        """Set an advanced option."""
        if not self.page.is_visible("#system"):
            self.page.click("#advanced .label-wrap")
            self.page.wait_for_selector("#system textarea")
        if name == "greedy":
            self.page.set_checked("#greedy input", value)
        elif name == "system":
            self.page.fill("#system textarea", value)
        else:
            self.page.fill(f"#{name} input[type=number]", str(value))
            self.page.press(f"#{name} input[type=number]", "Tab")

    def overflow(self):
        """Width of the page beyond the window, in pixels."""
        return self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")

    def settle(self):
        """Remove pointer and focus, and wait for all animations to end."""
        self.page.mouse.move(0, 0)
        self.page.evaluate("document.activeElement.blur()")
        self.page.wait_for_function("document.getAnimations().every(one => one.playState != 'running')")
        self.page.wait_for_timeout(500)

    def close(self):
        """Close the page."""
        self.context.close()
