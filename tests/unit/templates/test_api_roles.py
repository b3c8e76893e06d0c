"""Meta templates of `api_role`s: which they are, what becomes of messages, and which backends take them."""

import pickle

import pytest

from lagent_llms import LMDeployClient, OpenAIClient, TritonClient
from lagent_llms.errors import TemplateError, UnsupportedParameter
from lagent_llms.schema import Completion
from lagent_llms.templates import APITemplateParser, LMTemplateParser, load_template
from lagent_llms.templates.api_roles import APIRoles, api_roles

META = [
    {"role": "system", "api_role": "system"},
    {"role": "user", "api_role": "user"},
    {"role": "assistant", "api_role": "model", "begin": ""},
    {"role": "environment", "api_role": "system"},
    {"role": "critic", "fallback_role": "user"},
]
DIALOG = [
    {"role": "system", "content": "s"},
    {"role": "environment", "content": "e"},
    {"role": "user", "content": "u"},
    {"role": "critic", "content": "c"},
]
MAPPED = [{"role": "system", "content": "s\ne"}, {"role": "user", "content": "u\nc"}]


def sent(llm, messages, **given):
    return llm.prepare(messages, given).request


def test_roles_are_mapped_and_messages_go_to_the_chat_route():
    for llm in (
        OpenAIClient("http://127.0.0.1:9", "m", meta_template=META),
        LMDeployClient("http://127.0.0.1:9", "m", meta_template=META),
    ):
        request = sent(llm, DIALOG)
        assert (request.prompt, request.messages) == (None, MAPPED)
        assert sent(pickle.loads(pickle.dumps(llm)), DIALOG).messages == MAPPED
        assert llm.template_parser(DIALOG) == MAPPED
        assert sent(llm, "a prompt").prompt == "a prompt"
        with pytest.raises(TemplateError, match=r"messages\[0\]: the template has no role 'usr'.*'user'"):
            sent(llm, [{"role": "usr", "content": "x"}])


def test_answers_of_a_session_are_mapped_too():
    llm = LMDeployClient("http://127.0.0.1:9", "m", meta_template=META)
    answer = Completion("hi", "stop")
    assert llm.message_of(answer) == {"role": "model", "content": "hi"}
    messages = [*DIALOG[2:3], answer, {"role": "user", "content": "v"}]
    assert [one["role"] for one in sent(llm, messages).messages] == ["user", "model", "user"]


def test_parts_and_results_of_tools_stay_messages_of_their_own():
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    parse = APITemplateParser([{"role": "user", "api_role": "u", "begin": "[", "end": "]"}])
    assert parse(
        [
            {"role": "user", "content": [image]},
            {"role": "user", "content": "x"},
            {"role": "tool", "content": "7", "tool_call_id": "a"},
        ]
    ) == [
        {"role": "u", "content": [{"type": "text", "text": "["}, image, {"type": "text", "text": "]"}]},
        {"role": "u", "content": "[x]"},
        {"role": "tool", "content": "7", "tool_call_id": "a"},
    ]
    assert parse.roles == ("user",)


def test_a_template_of_the_model_renders_the_mapped_messages():
    roles = api_roles(META, lambda: "chatml")
    assert roles.template == "chatml"
    assert roles.parser(DIALOG) == MAPPED
    assert api_roles(None, lambda: "chatml") == APIRoles(None, "chatml")
    assert api_roles("qwen3", lambda: "chatml") == APIRoles(None, "qwen3")
    assert api_roles(roles, lambda: "qwen3") == roles
    assert api_roles(APIRoles(roles.parser), lambda: "qwen3").template == "qwen3"


def test_a_list_with_texts_is_rendered_as_before():
    meta = [{**item, "begin": f"<{item['role']}>"} for item in META[:3]]
    assert api_roles(meta) == APIRoles(None, meta)
    llm = LMDeployClient("http://127.0.0.1:9", "m", meta_template=meta)
    assert sent(llm, DIALOG[2:3]).prompt == "<user>u<assistant>"


def test_where_no_prompt_can_be_made_the_template_is_refused():
    with pytest.raises(TemplateError, match="TritonClient has no chat route"):
        TritonClient("127.0.0.1:9", "m", meta_template=META)
    for make in (load_template, LMTemplateParser):
        with pytest.raises(TemplateError, match="no texts"):
            make(META)


def test_session_len_of_mapped_messages_is_refused_as_without_a_template():
    llm = LMDeployClient("http://127.0.0.1:9", "m", meta_template=META, session_len=100)
    with pytest.raises(UnsupportedParameter, match="session_len"):
        llm.to_count(sent(llm, DIALOG))
