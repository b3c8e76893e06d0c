"""A model of OpenCompass over any backend of lagent_llms.

In a configuration of OpenCompass, with this folder in PYTHONPATH:

    from opencompass_model import LagentLLM
    models = [dict(type=LagentLLM, abbr="mine", path="llm.yaml", max_out_len=64, batch_size=8)]
"""

from opencompass.models.base import BaseModel

from lagent_llms import create_llm


class LagentLLM(BaseModel):
    """The backend of the configuration file `path`; `generation_kwargs` are parameters of its calls."""

    is_api = True  # no GPU is reserved for it

    def __init__(self, path, profile=None, **kwargs):
        super().__init__(path, **kwargs)
        self.llm = create_llm(path, profile=profile)
        self.template_parser = self.llm  # the backend's meta template, not OpenCompass'

    def generate(self, inputs, max_out_len):
        answers = self.llm.complete(inputs, max_new_tokens=max_out_len, **self.generation_kwargs)
        return [answer.text for answer in answers]

    def get_token_len(self, prompt):
        return len(self.llm.tokenize(prompt))
