"""The example model of OpenCompass answers the prompts of a task.

OpenCompass itself is not installed: with torch and its other requirements it takes 1.5 GB. What its
inferencers call on a model stands below, as in version 0.5.4.
"""

import sys
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).parents[3] / "examples"
ANSWERS = {"France": "Paris", "Italy": "Rome", "Japan": "Tokyo"}


class BaseModel:
    """Calls that the inferencers of OpenCompass make on a model."""

    def __init__(self, path, max_seq_len=2048, generation_kwargs=None):
        self.path, self.max_seq_len, self.generation_kwargs = path, max_seq_len, generation_kwargs or {}

    def parse_template(self, prompt_template, mode):
        return self.template_parser.parse_template(prompt_template, mode)

    def generate_from_template(self, templates, max_out_len):
        return self.generate(self.parse_template(templates, mode="gen"), max_out_len=max_out_len)


class PromptList(list):
    """OpenCompass' class of prompts."""


@pytest.fixture
def model_class(monkeypatch):
    for name in ("opencompass", "opencompass.models", "opencompass.models.base"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["opencompass.models.base"].BaseModel = BaseModel
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.delitem(sys.modules, "opencompass_model", raising=False)
    from opencompass_model import LagentLLM

    return LagentLLM


def test_a_task_on_the_embedded_model(model_class, tmp_path):
    config = tmp_path / "llm.yaml"
    config.write_text("profiles: {mine: {type: JAXPipeline}}", encoding="utf-8")
    prompts = [
        PromptList(
            [
                {"section": "round", "pos": "begin"},
                {"role": "HUMAN", "prompt": f"What is the capital of {country}?"},
                {"role": "BOT", "prompt": ""},
                {"section": "round", "pos": "end"},
            ]
        )
        for country in ANSWERS
    ]
    model = model_class(str(config), profile="mine", generation_kwargs={"temperature": 0})
    with model.llm:
        said = model.generate_from_template(prompts, max_out_len=32)
        assert [text.removesuffix(".").rpartition(" ")[2] for text in said] == [*ANSWERS.values()]
        assert model.get_token_len(model.parse_template(prompts[0], "gen")) > 10
