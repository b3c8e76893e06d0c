"""Cost of rendering a prompt: families of this library, their peers, and an f-string join.

Every figure is the CPU time of one rendering, in alternating rounds of one process, compared with the
f-string join of the same 1,000 messages (the minimal cost of a hand-written prompt).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks import report
from lagent_llms.templates import INTERNLM2_META, ChatTemplate, History, LMTemplateParser, load_template

NAME = "templates"
MESSAGES = 1_000
FLOOR, LAGENT, TRANSFORMERS = "f-string join", "lagent's parser", "transformers"
PARSER, JINJA = "LMTemplateParser(INTERNLM2_META)", "Jinja template, sandboxed"
#: What is compared with what, and the largest ratio allowed.
BUDGETS = ((PARSER, FLOOR, 2.0), (PARSER, LAGENT, 1.0), (JINJA, TRANSFORMERS, 1.1))
HISTORIES = (10, 100, 1_000, 10_000)
CHATML = (
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
FAMILIES = (
    "chatml", "internlm2", "qwen2.5", "qwen3", "llama-3", "llama-2", "mistral-nemo", "gemma-3", "deepseek-v3",
)  # fmt: skip


def dialog(count: int) -> list[dict[str, str]]:
    """Return a dialog of `count` messages that every family accepts."""
    roles = ("user", "assistant")
    return [
        {"role": roles[i % 2], "content": f"This is message number {i} of the dialog."} for i in range(count)
    ]


def f_string(messages: list[dict[str, str]]) -> str:
    """The floor: a join of f-strings."""
    turns = [f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n" for message in messages]
    return "".join(turns) + "<|im_start|>assistant\n"


def lagent_style(messages: list[dict[str, str]]) -> str:
    """Render as lagent's parser does: a lookup, a format and a concatenation per message."""
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


def candidates() -> dict[str, Callable[[Any], object]]:
    """Return all compared renderings by name."""
    found: dict[str, Callable[[Any], object]] = {FLOOR: f_string, LAGENT: lagent_style}
    for name in FAMILIES:
        template = load_template(name)
        assert isinstance(template, ChatTemplate)
        found[f"family {name}"] = template.render
    guarded = load_template("internlm2")
    assert isinstance(guarded, ChatTemplate)
    found["family internlm2, injection='escape'"] = guarded.guarded("escape").render
    lagent = load_template(INTERNLM2_META)
    assert isinstance(lagent, ChatTemplate)
    found["INTERNLM2_META (list of dicts)"] = lagent.render
    found[PARSER] = LMTemplateParser(INTERNLM2_META)
    try:
        import jinja2

        alone = jinja2.Template(CHATML)
        found["jinja2 alone"] = lambda messages: alone.render(messages=messages, add_generation_prompt=True)
        jinja = load_template(CHATML)
        assert isinstance(jinja, ChatTemplate)
        found[JINJA] = jinja.render
        import transformers  # noqa: F401

        found[TRANSFORMERS] = transformers_render
    except ImportError:
        pass
    return found


def growing(rounds: int) -> dict[str, dict[str, float]]:
    """Return two ways to add two messages to a session of `count`: render only these, or all messages."""
    template = load_template("chatml")
    assert isinstance(template, ChatTemplate)
    figures = {}
    for count in HISTORIES:
        known, new = (
            dialog(count),
            [{"role": "assistant", "content": "Yes."}, {"role": "user", "content": "Go on."}],
        )
        _, history = template.turn(History(tuple(known[:-1])), known[-1:])
        assert history.written is not None
        both: dict[str, Callable[[], object]] = {
            "grown": lambda history=history, new=new: template.turn(history, new),
            "whole": lambda known=known, new=new: template.render([*known, *new]),
        }
        figures[str(count)] = {
            name: min(found) * 1e6 for name, found in report.interleaved(both, rounds).items()
        }
    return figures


def measure(quick: bool) -> dict[str, Any]:
    messages = dialog(MESSAGES)
    renderers = {name: (lambda render=render: render(messages)) for name, render in candidates().items()}
    times = report.interleaved(renderers, 20 if quick else 200)
    floor, median = min(times[FLOOR]), report.median(times)
    return {
        "messages": MESSAGES,
        "growing": growing(20 if quick else 200),
        "budgets": [
            {"of": name, "to": peer, "most": most, "ratio": report.ratios(times, peer)[name]}
            for name, peer, most in BUDGETS
            if peer in times
        ],
        "renderings": {
            name: {
                "us": min(found) * 1e6,
                "ratio": min(found) / floor,
                "median_ratio": median[name] / median[FLOOR],
            }
            for name, found in times.items()
        },
    }


def tables(figures: dict[str, Any]) -> str:
    rows = [
        (name, f"{row['us']:.0f}", f"{row['ratio']:.2f}", f"{row['median_ratio']:.2f}")
        for name, row in figures["renderings"].items()
    ]
    head = (f"{figures['messages']:,} messages", "µs, best", "x f-string join, best", "median")
    grown = [
        (f"{int(count):,}", f"{row['grown']:.0f}", f"{row['whole']:.0f}")
        for count, row in figures["growing"].items()
    ]
    head_grown = ("messages said", "µs, a further turn alone", "µs, everything rendered again")
    budgets = [(row["of"], row["to"], f"{row['ratio']:.2f}", row["most"]) for row in figures["budgets"]]
    head_budgets = ("rendering", "compared with", "ratio, median of the rounds", "budget")
    return "\n\n".join(
        [report.table(head, rows), report.table(head_budgets, budgets), report.table(head_grown, grown)]
    )


if __name__ == "__main__":
    report.main(NAME, __doc__, measure, tables)
