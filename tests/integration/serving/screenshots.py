"""Take the screenshots in docs/images: the pages on a desktop and on a phone.

usage: python -m tests.integration.serving.screenshots     (scripts/screenshots installs Chromium first)
"""

from lagent_llms import JAXServer

from .browser import DESKTOP, PHONE, ROOT, Reader, chromium

IMAGES = ROOT / "docs" / "images"
DIALOG = ("Hello! My name is Nora.", "What is my name?", "Count from 1 to 30.")
QUESTION = "What is the capital of France?"
SYSTEM = "You are Luna, a helpful assistant."


def main():
    """Take all screenshots."""
    IMAGES.mkdir(exist_ok=True)
    server = JAXServer.load(
        config={"host": "127.0.0.1", "port": 0, "temperature": 0.0, "max_new_tokens": 400}
    )
    server.fire()
    with chromium() as browser:

        def take(name, page, size, *, dark=False, questions=(), system=""):
            reader = Reader(browser, f"{server.url}/gradio_{page}", size, dark=dark, sharp=size == PHONE)
            if system:
                reader.option("system", system)
            for question in questions:
                reader.answer(question)
            reader.settle()
            reader.page.screenshot(path=IMAGES / f"{name}.png")
            reader.close()

        take("chat-desktop", "chat", DESKTOP, questions=DIALOG)
        take("chat-dark", "chat", DESKTOP, questions=DIALOG, dark=True)
        take("chat-phone", "chat", PHONE, questions=(DIALOG[0], QUESTION, DIALOG[1]))
        take("chat-empty", "chat", PHONE)
        take("chat-error", "chat", PHONE, questions=(QUESTION, "Tell me more. " * 1500))
        take("instruct-desktop", "instruct", DESKTOP, questions=(QUESTION,))
        take("instruct-phone", "instruct", PHONE, questions=("Who are you?",), system=SYSTEM, dark=True)
    server.close()


if __name__ == "__main__":
    main()
