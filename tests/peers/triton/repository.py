"""The models of the peer: each has the signature of a dialect (configs/) and an implementation (speak/)."""

from pathlib import Path
from string import Template

HERE = Path(__file__).resolve().parent
CONFIGS = HERE / "configs"
#: The python backend ignores PYTHONPATH.
_CODE = """\
import sys

sys.path[:0] = {paths!r}
from speak.{module} import {name} as TritonPythonModel
"""

#: Name -> (signature, module:class in speak/, settings of the config).
MODELS = {
    # The embedded model with the most common signatures.
    "trtllm": ("trtllm", "trtllm", {"embedded": "true"}),
    "vllm": ("vllm", "vllm", {"embedded": "true"}),
    "preprocessing": ("preprocessing", "tokens:Preprocessing", {}),
    "turbomind": ("turbomind", "turbomind", {"embedded": "true"}),
    "postprocessing": ("postprocessing", "tokens:Postprocessing", {}),
    # Scripted models: the prompt contains the answer.
    "trtllm-scripted": ("trtllm", "trtllm", {}),
    "trtllm-cumulative": ("trtllm", "trtllm", {"accumulate": "true"}),
    "trtllm-echo": ("trtllm-no-exclude", "trtllm", {"echo": "true"}),
    "trtllm-echo-cumulative": ("trtllm-no-exclude", "trtllm", {"echo": "true", "accumulate": "true"}),
    "trtllm-whole": ("trtllm-whole", "trtllm", {}),
    "ensemble": ("ensemble", None, {}),
    "llmapi": ("llmapi", "llmapi", {}),
    "vllm-scripted": ("vllm", "vllm", {}),
    "lmdeploy_model": ("lmdeploy", "lmdeploy", {}),
    # Models that match no dialect or cannot be loaded.
    "classifier": ("classifier", "trtllm", {}),
    "broken": ("trtllm", "nothing", {}),
}


def write_repository(directory, names=None, renamed=()):
    """Write a model repository for tritonserver with the models `names`; None writes all of them.

    `renamed` maps models to other names under which they are served.
    """
    for name in MODELS if names is None else names:
        signature, code, settings = MODELS[name]
        name = dict(renamed).get(name, name)
        version = directory / name / "1"
        version.mkdir(parents=True)
        parameters = "\n".join(
            f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}'
            for key, value in settings.items()
        )
        text = Template((CONFIGS / f"{signature}.pbtxt").read_text(encoding="utf-8")).substitute(name=name)
        (directory / name / "config.pbtxt").write_text(f"{text}\n{parameters}\n", encoding="utf-8")
        if code is not None:
            module, _, attribute = code.partition(":")
            text = _CODE.format(
                paths=[str(HERE.parents[2]), str(HERE)], module=module, name=attribute or "TritonPythonModel"
            )
            (version / "model.py").write_text(text, encoding="utf-8")
