"""The extra `jax`: the embedded model answers."""

from lagent_llms import create_llm


def test_the_embedded_model_answers():
    with create_llm() as llm:
        assert llm.chat("What is the capital of France?") == "The capital of France is Paris."
        assert "".join(llm.stream_text("The capital of", max_new_tokens=4))
