"""An agent loop gives the same answer on every backend."""

import sys
from pathlib import Path

from lagent_llms import create_llm

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_an_agent_loop_changes_its_backend_by_one_line_of_configuration(config):
    sys.path.insert(0, str(EXAMPLES))
    try:
        import agent_loop
    finally:
        sys.path.pop(0)
    with create_llm(config) as llm:
        said = "".join(agent_loop.answer(llm, "What is 231 * 17?")).splitlines()
    assert said == [
        "<|action_start|><|plugin|>",
        '{"name": "calculator", "parameters": {"expression": "231 * 17"}}<|action_end|>',
        "[calculator: 3927]",
        "231 * 17 = 3927.",
    ]
