"""A model's chat template as the formats of a JAX server: what they write is what the template writes."""

import pytest

from lagent_llms import TemplateError
from lagent_llms.serving.jax_server.config import JAXServerConfig
from lagent_llms.serving.jax_server.prompts import Prompts
from lagent_llms.templates import available_templates, load_template

NONE = {"easydel-instruct"}  # knows a single turn


class Server(Prompts):
    def __init__(self, template, **config):
        self.config = JAXServerConfig(**config)
        self._use_own_format(template)


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


FAMILIES = [name for name in available_templates() if name not in NONE]


@pytest.mark.parametrize("name", FAMILIES)
def test_prompts_are_the_template_s(name):
    template = load_template(name)
    server = Server(template)
    history = [["one {x}", "1"], ["two", "2"]]
    dialog = [user("one {x}"), assistant("1"), user("two"), assistant("2"), user("three {")]
    assert server.format_chat("three {", history) == template.render(dialog)
    assert server.format_chat("hi") == template.render([user("hi")])
    told = server.format_instruct("What is {this}?", "Be brief.")
    assert told.index("Be brief.") < told.index("What is {this}?")
    try:
        whole = template.render([{"role": "system", "content": "Be brief."}, *dialog])
    except TemplateError:  # no place for it: it stands in the user's turn
        whole = ""
    if 0 <= whole.find("Be brief.") < whole.find("one {x}"):  # some leave it out, some move it to the end
        assert server.format_chat("three {", history, "Be brief.") == whole
    else:
        assert "Be brief." in server.format_chat("three {", history, "Be brief.")


def test_formats_of_the_configuration_win():
    template = load_template("internlm2")
    server = Server(template, instruct_format="{system}|{instruct}")
    assert server.format_instruct("a", "b") == "b|a"
    assert server.format_chat("a") == "<|prompter|>a</s><|assistant|>"
    assert server.format_chat("a", system="b") == "b<|prompter|>a</s><|assistant|>"
    assert Server(template, contains_auto_format=False).config == JAXServerConfig(contains_auto_format=False)
    assert Server(None).config == JAXServerConfig()


def test_a_template_of_a_single_turn_leaves_the_formats_alone():
    for name in NONE:
        assert Server(load_template(name)).config == JAXServerConfig()


def test_the_default_system_message_is_the_configuration_s():
    server = Server(load_template("internlm2"), system="You are Luna.", system_prefix="!")
    assert "system\n!You are Luna.<|im_end|>" in server.format_chat("hi")
    assert "system\n!You are Luna.<|im_end|>" in server.format_instruct("hi")
    assert "Luna" not in server.format_instruct("hi", "")
