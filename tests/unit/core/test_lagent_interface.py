"""The attributes of lagent's models, for subclasses and OpenCompass' adapters."""

import pytest

from lagent_llms import INTERNLM2_META, LMDeployClient, OpenAIClient
from lagent_llms.errors import InvalidArgument, TemplateError
from lagent_llms.templates.api_roles import APIRoles
from lagent_llms.testing import AsyncScriptedLLM, ScriptedLLM

HI = [{"role": "user", "content": "hi"}]
HI_OF_CHATML = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"


class PromptList(list):
    """OpenCompass' class."""


def round_of(*turns):
    """A prompt template of OpenCompass: a begin section and a round."""
    begin = {"role": "SYSTEM", "fallback_role": "HUMAN", "prompt": "be brief"}
    marks = [{"section": name, "pos": pos} for name in ("begin", "round") for pos in ("begin", "end")]
    items = [{"role": role, "prompt": prompt} for role, prompt in turns]
    return PromptList([marks[0], begin, marks[1], "", marks[2], *items, marks[3]])


ROUND = round_of(("HUMAN", "1+1?"), ("BOT", "2"), ("HUMAN", "1+2?"), ("BOT", ""))


def test_gen_params_are_lagents():
    llm = ScriptedLLM(stop_words="x", top_k=-1)
    assert llm.gen_params == {
        "max_new_tokens": 512,
        "top_p": 0.8,
        "top_k": None,
        "temperature": 0.8,
        "repetition_penalty": 1.0,
        "stop_words": ["x"],
    }
    changed = llm.update_gen_params(temperature=0, session_id=3)
    assert changed == {**llm.gen_params, "temperature": 0, "session_id": 3}
    assert llm.gen_params["temperature"] == 0.8
    with pytest.raises(TypeError):
        llm.gen_params["temperature"] = 0  # type: ignore[index]


def test_where_the_servers_defaults_hold_only_given_values_are_passed_on():
    llm = OpenAIClient("http://127.0.0.1:9", "m", temperature=0.5)
    assert llm.update_gen_params(seed=1) == {"temperature": 0.5, "seed": 1}


def test_template_parser():
    assert ScriptedLLM(meta_template="chatml").template_parser(HI) == HI_OF_CHATML
    assert ScriptedLLM().template_parser(HI) == "hi"
    assert OpenAIClient("http://127.0.0.1:9", "m").template_parser(HI) == HI
    mapped = ScriptedLLM(meta_template=APIRoles(lambda messages: [{**messages[0], "role": "user"}], "chatml"))
    assert mapped.template_parser([{"role": "any", "content": "hi"}]) == HI_OF_CHATML
    assert mapped.template_parser("as it is") == "as it is"
    assert mapped.chat([{"role": "any", "content": "hi"}]) == "ok"
    assert mapped.requests[0].prompt == HI_OF_CHATML


def test_opencompass_templates():
    llm = ScriptedLLM(meta_template=INTERNLM2_META)
    turn = "<|im_start|>{}\n{}<|im_end|>\n"
    said = "".join(
        turn.format(*one)
        for one in (("system", "be brief"), ("user", "1+1?"), ("assistant", "2"), ("user", "1+2?"))
    )
    assert llm.parse_template(ROUND, "gen") == f"{said}<|im_start|>assistant\n"
    assert llm.parse_template(ROUND, "ppl") == said + turn.format("assistant", "")
    assert llm.parse_template([ROUND, "a prompt"]) == [f"{said}<|im_start|>assistant\n", "a prompt"]
    assert llm.parse_template(PromptList(["a ", "prompt"])) == "a prompt"
    chat = OpenAIClient("http://127.0.0.1:9", "m")
    assert chat.parse_template(ROUND)[::3] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "1+2?"},
    ]


def test_opencompass_roles_that_a_template_names_are_kept_and_others_fall_back():
    meta = [{"role": "HUMAN", "api_role": "user"}, {"role": "BOT", "api_role": "assistant"}]
    llm = LMDeployClient("http://127.0.0.1:9", "m", meta_template=meta)
    assert llm.parse_template(round_of(("HUMAN", "1+1?"), ("BOT", ""))) == [
        {"role": "user", "content": "be brief\n1+1?"}
    ]
    with pytest.raises(TemplateError, match="no role 'JUDGE'"):
        llm.parse_template([{"role": "JUDGE", "prompt": "x"}])


@pytest.mark.parametrize(("given", "argument"), [((3,), "prompt_template"), (("x", "train"), "mode")])
def test_bad_templates_of_opencompass(given, argument):
    with pytest.raises(InvalidArgument, match=argument):
        ScriptedLLM().parse_template(*given)


async def test_sessions_of_generate():
    for llm, several in ((ScriptedLLM(), False), (AsyncScriptedLLM(), True)):
        answers = llm.generate(["a", "b"], [7, 8]), llm.generate("c", session_ids=9)
        assert [await one if several else one for one in answers] == [["ok", "ok"], "ok"]
        assert sorted(request.options.session_id for request in llm.requests) == [7, 8, 9]
        with pytest.raises(InvalidArgument, match="session_ids"):
            _ = await llm.generate("c", 1, session_id=2) if several else llm.generate("c", 1, session_id=2)
