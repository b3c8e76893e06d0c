"""An agent loop gives the same answer on every backend."""

import sys
from pathlib import Path

from lagent_llms import create_llm
from lagent_llms.backends.jax.pipeline import EMBEDDED_MODEL

EXAMPLES = Path(__file__).parents[2] / "examples"
FILE = (EXAMPLES / "swap_backends.yaml").read_text(encoding="utf-8")
#: Backend under test -> the profiles of swap_backends.yaml that run on it.
PROFILES = {
    "JAXPipeline": ["JAXPipeline", "Fallback"],
    "LMDeployClient": ["LMDeployClient"],
    "LMDeployServer": ["LMDeployServer"],
    "TritonClient-vllm": ["TritonClient"],
    "LoRAX": ["LoRAX"],
    "OpenAIClient-llama.cpp": ["OpenAIClient"],
    "HFTransformers": ["HFTransformers"],
}
#: Arguments of the tests' peers, which the file need not have.
OF_PEERS = ("command", "serve_cfg", "model_name")


def ask(config, **overrides):
    """Return the lines that the example's agent says on the configured backend."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        import agent_loop
    finally:
        sys.path.pop(0)
    with create_llm(config, **overrides) as llm:
        said = "".join(agent_loop.answer(llm, "What is 231 * 17?")).splitlines()
    assert said == [
        "<|action_start|><|plugin|>",
        '{"name": "calculator", "parameters": {"expression": "231 * 17"}}<|action_end|>',
        "[calculator: 3927]",
        "231 * 17 = 3927.",
    ]


def test_an_agent_loop_changes_its_backend_by_one_line_of_configuration(
    subject, config, tmp_path, monkeypatch
):
    settings = subject.config
    address = next((settings[key] for key in ("url", "base_url", "tritonserver_addr") if key in settings), "")
    monkeypatch.setenv("LLM_URL", address)
    monkeypatch.setenv("MODEL", str(EMBEDDED_MODEL))
    for name in PROFILES.get(subject.name, ()):
        path = tmp_path / f"{name}.yaml"
        path.write_text(FILE.replace("default: JAXPipeline\n", f"default: {name}\n"), encoding="utf-8")
        ask(path, **{key: settings[key] for key in OF_PEERS if key in settings})
    if subject.name not in PROFILES:
        ask(config)


def test_every_line_of_the_file_is_tested():
    tested = [name for names in PROFILES.values() for name in names]
    assert sorted(tested) == sorted(
        line.split(":")[0].strip() for line in FILE.splitlines() if "{type:" in line
    )
