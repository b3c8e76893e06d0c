"""A chat template converted to a JAX server's formats: both produce the same prompts."""

import pytest

from lagent_llms import TemplateError
from lagent_llms.serving.jax_server.config import JAXServerConfig
from lagent_llms.serving.jax_server.prompts import Prompts
from lagent_llms.templates import available_templates, load_template

SINGLE_TURN = {"easydel-instruct"}


class Server(Prompts):
    def __init__(self, template, **config):
        self.config = JAXServerConfig(**config)
        self._use_template_formats(template)


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


FAMILIES = [name for name in available_templates() if name not in SINGLE_TURN]


@pytest.mark.parametrize("name", FAMILIES)
def test_prompts_equal_those_of_the_template(name):
    template = load_template(name)
    server = Server(template)
    history = [["one {x}", "1"], ["two", "2"]]
    dialog = [user("one {x}"), assistant("1"), user("two"), assistant("2"), user("three {")]
    assert server.format_chat("three {", history) == template.render(dialog)
    assert server.format_chat("hi") == template.render([user("hi")])
    instruct = server.format_instruct("What is {this}?", "Be brief.")
    assert instruct.index("Be brief.") < instruct.index("What is {this}?")
    try:
        expected = template.render([{"role": "system", "content": "Be brief."}, *dialog])
    except TemplateError:  # the template refuses it: the text is put into the user's turn
        expected = ""
    if (
        0 <= expected.find("Be brief.") < expected.find("one {x}")
    ):  # some templates drop the system text, some move it to the end
        assert server.format_chat("three {", history, "Be brief.") == expected
    else:
        assert "Be brief." in server.format_chat("three {", history, "Be brief.")


def test_changed_formats_replace_the_template():
    template = load_template("internlm2")
    server = Server(template, instruct_format="{system}|{instruct}")
    assert server.format_instruct("a", "b") == "b|a"
    assert server.format_chat("a") == "<|prompter|>a</s><|assistant|>"
    assert server.format_chat("a", system="b") == "b<|prompter|>a</s><|assistant|>"
    assert Server(template, contains_auto_format=False).config == JAXServerConfig(contains_auto_format=False)
    assert Server(None).config == JAXServerConfig()


def test_a_single_turn_template_changes_no_format():
    for name in SINGLE_TURN:
        assert Server(load_template(name)).config == JAXServerConfig()


def test_the_default_system_message_comes_from_the_configuration():
    server = Server(load_template("internlm2"), system="You are Luna.", system_prefix="!")
    assert "system\n!You are Luna.<|im_end|>" in server.format_chat("hi")
    assert "system\n!You are Luna.<|im_end|>" in server.format_instruct("hi")
    assert "Luna" not in server.format_instruct("hi", "")


@pytest.mark.parametrize("name", FAMILIES)
def test_an_instruction_without_system_message_is_what_the_model_was_trained_on(name):
    template = load_template(name)
    server = Server(template)
    expected = template.render([user("Say {hi}")])
    assert server.format_instruct("Say {hi}") == server.format_instruct("Say {hi}", "") == expected
    assert server.format_chat("Say {hi}") == expected


def test_an_instruction_without_system_message_in_chatml():
    assert Server(load_template("chatml")).format_instruct("hi") == (
        "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    )


def test_the_formats_of_the_seed_stay_byte_for_byte():
    server = Server(None)
    assert server.format_instruct("hi", "Be brief.") == (
        "### SYSTEM:\nBe brief.\n### INSTRUCT:\nhi\n### ASSISTANT:\n"
    )
    assert server.format_instruct("hi") == "### SYSTEM:\n\n### INSTRUCT:\nhi\n### ASSISTANT:\n"
    assert server.format_chat("c", [["a", "b"]]) == (
        "<|prompter|>a</s><|assistant|>b</s><|prompter|>c</s><|assistant|>"
    )
