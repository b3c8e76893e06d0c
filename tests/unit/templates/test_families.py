"""Every family against the official renderings, byte for byte, including rejected dialogs."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lagent_llms.errors import LLMError, TemplateError
from lagent_llms.templates import available_templates, load_template
from lagent_llms.templates.drift import dialogs

from .conftest import DAY, load

GOLDEN: dict[str, list[dict[str, Any]]] = defaultdict(list)
for _row in load("golden.json.gz"):
    GOLDEN[_row["family"]].append(_row)
RANDOM = load("random.json.gz")

#: Families whose prompt is not always a prefix of the next turn's prompt.
NOT_PREFIX_STABLE = (
    "codellama-70b",
    "deepseek-r1",
    "deepseek-r1-distill",
    "glm-4",
    "mistral-nemo",
    "qwen3-nothink",
)


def rendered(family: str, messages: list[Any], **keywords: Any) -> str | None:
    template = load_template(family)
    assert template is not None
    try:
        return template.render(messages, now=DAY, **keywords)
    except TemplateError:
        return None


def test_every_family_has_rows_or_random_dialogs() -> None:
    assert len(GOLDEN) == 51
    assert set(available_templates()) == set(GOLDEN) | set(RANDOM["expected"])


@pytest.mark.parametrize("family", available_templates())
def test_a_family_has_name_stop_words_and_roles(family: str) -> None:
    template = load_template(family)
    assert template is not None
    assert template.name == family
    assert template.stop_words
    assert template.roles


def test_history_text_has_no_closing_text() -> None:
    template = load_template("internlm2")
    assert template is not None
    dialog = [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]
    assert template.render(dialog, add_generation_prompt=False) == template.history_text(dialog) + "</s>"
    further = [*dialog, {"role": "user", "content": "v"}]
    assert template.render(further).startswith(template.history_text(dialog))


@pytest.mark.parametrize("family", sorted(GOLDEN))
def test_golden_rows(family: str) -> None:
    template = load_template(family)
    assert template is not None
    for row in GOLDEN[family]:
        keywords = row.get("template_kwargs", {})
        text = rendered(
            family, row["messages"], add_generation_prompt=row["add_generation_prompt"], **keywords
        )
        assert text == row.get("expected"), row["id"]
        assert template.stop_words == tuple(row["stop_words"])


@pytest.mark.parametrize("family", sorted(RANDOM["expected"]))
def test_random_dialogs(family: str) -> None:
    for number, (dialog, expected) in enumerate(
        zip(RANDOM["dialogs"], RANDOM["expected"][family], strict=True)
    ):
        assert rendered(family, **dialog) == expected, (number, dialog)


def test_options() -> None:
    dialog = [{"role": "user", "content": "x"}]
    assert rendered("qwen3", dialog, enable_thinking=False) == rendered("qwen3-nothink", dialog)
    assert rendered("qwen3-nothink", dialog, enable_thinking=True) == rendered("qwen3", dialog)
    assert "Today Date: 1 May 2030" in (rendered("llama-3.1", dialog, date_string="1 May 2030") or "")
    llama = load_template("llama-3.2")
    assert llama is not None
    assert "Today Date: 15 Jan 2025" in llama.render(dialog, now=lambda: DAY)
    with pytest.raises(
        TemplateError, match="unknown option 'enable_thinkin', did you mean 'enable_thinking'"
    ):
        load_template("qwen3").render(dialog, enable_thinkin=False)  # type: ignore[union-attr]


@pytest.mark.parametrize("family", available_templates())
def test_bos_is_rendered_once_or_left_to_the_server(family: str) -> None:
    template = load_template(family)
    assert template is not None
    for opening in (["user"], ["system", "user"]):
        try:
            text = template.render([{"role": role, "content": "x"} for role in opening])
        except TemplateError:
            continue
        assert text.startswith(template.bos) is template.adds_bos or not template.bos
        if template.adds_bos and family != "alphamonarch":
            assert text.count(template.bos) == 1


def grows_as_prefix(family: str, system: str, contents: list[str]) -> bool:
    """True if each prompt of a growing conversation begins with the prompt of the turn before."""
    template = load_template(family)
    assert template is not None
    before = ""
    dialog = [{"role": "system", "content": system}] if system else []
    for turn, content in enumerate(contents):
        dialog.append({"role": ("user", "assistant")[turn % 2], "content": content})
        if turn % 2 == 0:
            prompt = template.render(dialog, now=DAY)
            if not prompt.startswith(before):
                return False
            before = prompt
    return True


TEXTS = st.lists(st.text(max_size=12) | st.just("<think>\nhm\n</think>\n\nyes"), min_size=1, max_size=7)


@pytest.mark.parametrize("family", sorted(set(available_templates()) - set(NOT_PREFIX_STABLE)))
@settings(max_examples=10, deadline=None)
@given(system=st.text(max_size=5), contents=TEXTS)
def test_prefix_stable(family: str, system: str, contents: list[str]) -> None:
    try:
        assert grows_as_prefix(family, system, contents)
    except TemplateError:
        assert system or family.startswith("easydel-instruct")  # some families have no system role


@pytest.mark.parametrize("family", sorted(NOT_PREFIX_STABLE))
def test_not_prefix_stable(family: str) -> None:
    dialogs = [("", ["q", "a", "q"]), ("s", ["q", "a", "q"]), ("", ["q", "", "q"])]
    assert not all(grows_as_prefix(family, system, contents) for system, contents in dialogs)


PLAIN = ("chatml", "hermes-3", "yi-34b-chat", "phi-4-mini", "alphamonarch", "chatglm3")
ROLES = st.sampled_from(["system", "user", "assistant", "tool", "environment", "a {role} %s"])
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": ROLES, "content": st.text(max_size=20)}, optional={"name": st.text(max_size=5)}
    ),
    min_size=1,
    max_size=8,
)


@pytest.mark.parametrize("family", PLAIN)
@settings(max_examples=25, deadline=None)
@given(messages=MESSAGES)
def test_a_plain_family_is_the_concatenation_of_its_turns(family: str, messages: list[Any]) -> None:
    template = load_template(family)
    assert template is not None
    opening = template.history_text([])
    turns = "".join(template.history_text([message]).removeprefix(opening) for message in messages)
    assert template.history_text(messages) == opening + turns


@settings(max_examples=60, deadline=None)
@given(
    family=st.sampled_from(available_templates()),
    messages=MESSAGES,
    flags=st.fixed_dictionaries(
        {"add_generation_prompt": st.booleans(), "continue_final_message": st.booleans()}
    ),
)
def test_rendering_raises_nothing_but_library_errors(
    family: str, messages: list[Any], flags: dict[str, bool]
) -> None:
    template = load_template(family)
    assert template is not None
    try:
        text = template.render(messages, **flags)
    except LLMError:
        return
    assert isinstance(text, str)


@pytest.mark.parametrize(
    "family", ["chatml", "llama-2", "qwen3", "deepseek-v3", "gemma-3", "llama-3.1", "glm-4"]
)
def test_the_fast_path_equals_rendering_turn_by_turn(family: str) -> None:
    for dialog, generation in dialogs(80, seed=7):
        slow = [{**message, "unused": None} for message in dialog]  # an extra key avoids the fast path
        fast = rendered(family, dialog, add_generation_prompt=generation)
        assert fast == rendered(family, slow, add_generation_prompt=generation)


def test_the_table_of_the_docs_is_current() -> None:
    from .table import BEGIN, DOCS, END, table

    text = DOCS.read_text(encoding="utf-8")
    assert text.partition(BEGIN)[2].partition(END)[0] == table()
