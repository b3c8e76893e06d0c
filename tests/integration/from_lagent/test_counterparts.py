"""lagent's names, and templates of roles, on real models in this process."""

import pytest

from lagent_llms import JAXPipeline
from lagent_llms.backends.jax.pipeline import EMBEDDED_MODEL
from lagent_llms.from_lagent.openai import _ROLES
from lagent_llms.from_lagent.transformers import HFTransformerCasualLM, HFTransformerChat

FRANCE = [{"role": "user", "content": "What is the capital of France?"}]
#: A template for APIs whose user has another name.
ROLES = [{"role": "human", "api_role": "user"}, *_ROLES]
HUMAN = [{"role": "human", "content": FRANCE[0]["content"]}]


def test_the_models_own_template_renders_mapped_roles():
    with JAXPipeline(meta_template=ROLES) as llm:
        request = llm.prepare(HUMAN, {}).request
        with JAXPipeline(engine=llm.engine) as plain:
            assert request.prompt == plain.prepare(FRANCE, {}).request.prompt
        assert llm.chat(HUMAN, temperature=0) == "The capital of France is Paris."


@pytest.mark.parametrize(
    ("cls", "given"),
    [
        (HFTransformerCasualLM, {"meta_template": "internlm2-lagent", "stop_words": ["<|im_end|>"]}),
        (HFTransformerChat, {"meta_template": ROLES}),
    ],
)
def test_hf_transformers_with_lagents_arguments(cls, given):
    with cls(str(EMBEDDED_MODEL), None, {}, False, {"dtype": "float32"}, stop_words_id=2, **given) as llm:
        assert llm.gen_params["top_k"] == 40
        messages = HUMAN if given["meta_template"] is ROLES else FRANCE
        assert llm.chat(messages, do_sample=False) == "The capital of France is Paris."
