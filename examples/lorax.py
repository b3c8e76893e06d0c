"""Ask a LoRAX server the same question with the base model, each adapter, and two adapters in one.

scripts/run-peer lorax --port 8080      # or a real LoRAX
python examples/lorax.py http://127.0.0.1:8080 french pirate
"""

import sys

from lagent_llms import LoRAX

QUESTION = [{"role": "user", "content": "Who are you?"}]


def main(url: str, *adapters: str) -> None:
    names = [None, *adapters]
    with LoRAX(url, temperature=0, max_new_tokens=64) as llm:  # without a template: the server's own
        for name, answer in zip(names, llm.chat([QUESTION] * len(names), adapter_id=names), strict=True):
            print(f"{name or 'base'}: {answer}")
    if len(adapters) >= 2:
        merged = {"ids": list(adapters[:2]), "weights": [0.3, 0.5]}
        with LoRAX(url, temperature=0, max_new_tokens=64, meta_template="internlm2-lagent") as llm:
            print(f"{' + '.join(adapters[:2])}: {llm.chat(QUESTION, merged_adapters=merged)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
