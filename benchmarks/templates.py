"""What it costs to assemble a prompt: families of this library against an f-string join, and its peers.

Every figure is the median over alternating rounds of one process, as a ratio to the f-string join of the same
dialog (what a hand-written prompt costs at least). Run: ``python benchmarks/templates.py [--messages 1000]``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

from lagent_llms.meta_template import INTERNLM2_META, ChatTemplate, load_template

CHATML = (
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
FAMILIES = (
    "chatml", "internlm2", "qwen2.5", "qwen3", "llama-3", "llama-2", "mistral-nemo", "gemma-3", "deepseek-v3",
)  # fmt: skip


def dialog(count: int) -> list[dict[str, str]]:
    """A dialog of `count` messages that every family takes."""
    roles = ("user", "assistant")
    return [
        {"role": roles[i % 2], "content": f"This is message number {i} of the dialog."} for i in range(count)
    ]


def f_string(messages: list[dict[str, str]]) -> str:
    """The floor: a join of f-strings."""
    turns = [f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n" for message in messages]
    return "".join(turns) + "<|im_start|>assistant\n"


def lagent_style(messages: list[dict[str, str]]) -> str:
    """What lagent's parser does: a lookup, a format and a concatenation for each message."""
    roles = {item["role"]: item.copy() for item in INTERNLM2_META}
    prompt = ""
    for message in messages:
        role = roles[message["role"]]
        begin = role["begin"].get("without_name", "") if message.get("name") is None else ""
        prompt += begin + message.get("content", "") + role.get("end", "")
    return prompt + roles["assistant"]["begin"]["without_name"]


def transformers_render(messages: list[dict[str, str]]) -> str:
    """The same Jinja template, rendered by transformers."""
    from transformers.utils.chat_template_utils import render_jinja_template

    return str(render_jinja_template([messages], chat_template=CHATML, add_generation_prompt=True)[0][0])


def measure(candidates: dict[str, Callable[[Any], object]], messages: Any, rounds: int) -> dict[str, float]:
    """Median seconds of each candidate, rounds interleaved so that all see the same machine."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, candidate in candidates.items():
            start = time.perf_counter()
            candidate(messages)
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in times.items()}


def candidates() -> dict[str, Callable[[Any], object]]:
    """All that is compared, by name."""
    found: dict[str, Callable[[Any], object]] = {"f-string join": f_string, "lagent's parser": lagent_style}
    for name in FAMILIES:
        template = load_template(name)
        assert isinstance(template, ChatTemplate)
        found[f"family {name}"] = template.render
    lagent = load_template(INTERNLM2_META)
    assert isinstance(lagent, ChatTemplate)
    found["INTERNLM2_META (list of dicts)"] = lagent.render
    try:
        import jinja2

        alone = jinja2.Template(CHATML)
        found["jinja2 alone"] = lambda messages: alone.render(messages=messages, add_generation_prompt=True)
        jinja = load_template(CHATML)
        assert isinstance(jinja, ChatTemplate)
        found["Jinja template, sandboxed"] = jinja.render
        import transformers  # noqa: F401

        found["transformers"] = transformers_render
    except ImportError:
        pass
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=200)
    arguments = parser.parse_args()
    medians = measure(candidates(), dialog(arguments.messages), arguments.rounds)
    floor = medians["f-string join"]
    print(f"| {arguments.messages:,} messages | µs | x f-string join |\n|---|---|---|")
    for name, seconds in medians.items():
        print(f"| {name} | {seconds * 1e6:.0f} | {seconds / floor:.2f} |")


if __name__ == "__main__":
    main()
