"""Ask a model of transformers in this process; with adapters, one answer from each.

python examples/hf_transformers.py path/to/model
python examples/hf_transformers.py path/to/model french=path/to/adapter shout=path/to/another
"""

import sys

from lagent_llms import HFTransformers

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


def main(path: str, *adapters: str) -> None:
    named = dict(item.split("=", 1) for item in adapters)
    with HFTransformers(path, adapters=named) as llm:
        for delta in llm.stream_text(QUESTION):
            print(delta, end="", flush=True)
        print()
        answers = llm.chat([QUESTION] * len(named), adapter_id=[*named])
        for name, answer in zip(named, answers, strict=True):
            print(f"{name}: {answer}")


if __name__ == "__main__":
    main(*sys.argv[1:])
