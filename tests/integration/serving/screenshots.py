"""Take the pictures of docs/images: the pages, as they look on a desktop and on a phone.

usage: python -m tests.integration.serving.screenshots        (scripts/screenshots makes what it needs first)
"""

from lagent_llms import JAXServer

from .browser import DESKTOP, PHONE, ROOT, Reader, chromium

IMAGES = ROOT / "docs" / "images"
DIALOG = ("Hello! My name is Nora.", "What is my name?", "Count from 1 to 30.")
QUESTION = "What is the capital of France?"
LUNA = "You are Luna, a helpful assistant."


def main():
    """Take all of them."""
    IMAGES.mkdir(exist_ok=True)
    server = JAXServer.load(
        config={"host": "127.0.0.1", "port": 0, "temperature": 0.0, "max_new_tokens": 400}
    )
    server.fire()
    with chromium() as browser:

        def taken(name, page, size, *, dark=False, questions=(), system=""):
            reader = Reader(browser, f"{server.url}/gradio_{page}", size, dark=dark, sharp=size == PHONE)
            if system:
                reader.option("system", system)
            for question in questions:
                reader.answer(question)
            reader.settle()
            reader.page.screenshot(path=IMAGES / f"{name}.png")
            reader.close()

        taken("chat-desktop", "chat", DESKTOP, questions=DIALOG)
        taken("chat-dark", "chat", DESKTOP, questions=DIALOG, dark=True)
        taken("chat-phone", "chat", PHONE, questions=(DIALOG[0], QUESTION, DIALOG[1]))
        taken("chat-empty", "chat", PHONE)
        taken("chat-error", "chat", PHONE, questions=(QUESTION, "Tell me more. " * 1500))
        taken("instruct-desktop", "instruct", DESKTOP, questions=(QUESTION,))
        taken("instruct-phone", "instruct", PHONE, questions=("Who are you?",), system=LUNA, dark=True)
    server.close()


if __name__ == "__main__":
    main()
