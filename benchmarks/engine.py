"""Tokens per CPU-second of the JAX engine against transformers + torch, and time to the first token.

Both decode the same random model greedily with the same prompts, each in a process of its own, in turns; CPU
seconds include all threads of the process. torch runs on one thread, its best case per CPU-second.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks import report

NAME = "engine"
TOKENS = 64  # generated tokens per prompt
BATCHES = (1, 8, 32)
PROMPT_TOKENS = 48
SIZES = {
    "vocab_size": 2048,
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 5,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def make_model(path: Path) -> None:
    """Write a random Llama of about 4 million parameters, with a tokenizer whose tokens are their ids."""
    import torch
    from tokenizers import Tokenizer, models
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**SIZES)).save_pretrained(path)
    words = {f"w{index}": index for index in range(SIZES["vocab_size"])}
    Tokenizer(models.WordLevel(words, unk_token="w0")).save(str(path / "tokenizer.json"))


def prompts(batch: int, salt: int) -> list[list[int]]:
    return [
        [1]
        + [
            (place * 31 + row * 97 + salt * 53 + place * place) % 2000 + 10
            for place in range(PROMPT_TOKENS - 1)
        ]
        for row in range(batch)
    ]


def rate(answer: Any) -> dict[str, float]:
    """Return tokens per CPU-second by batch size; `answer` takes prompts and returns the number of tokens."""
    figures = {}
    for batch in BATCHES:
        answer(prompts(batch, 0))  # warm-up: compiles, allocates
        best = 0.0
        for round_ in range(1, 4):
            rows = prompts(batch, round_)
            began = time.process_time()
            count = answer(rows)
            best = max(best, count / (time.process_time() - began))
            assert count == batch * TOKENS
        figures[str(batch)] = best
    return figures


def run_engine(path: str, cache: str) -> dict[str, float]:
    from lagent_llms.jax_engine import Engine, SamplingParams, TokenEvent

    # transformers does not stream here either, so the engine may take longer steps than its default of 8
    engine = Engine.load(path, max_slots=max(BATCHES), max_len=512, decode_chunk=16, cache_dir=cache)
    greedy = SamplingParams(max_new_tokens=TOKENS, temperature=0, ignore_eos=True)

    def answer(rows: list[list[int]]) -> int:
        left, counts, done = [len(rows)], [], threading.Event()

        def on_event(event: TokenEvent) -> None:
            counts.append(len(event.token_ids))
            if event.finish_reason or event.error:
                left[0] -= 1
                if not left[0]:
                    done.set()

        for row in rows:
            engine.submit(row, greedy, on_event=on_event)
        done.wait()
        return sum(counts)

    with engine:
        return rate(answer)


def run_torch(path: str, _cache: str) -> dict[str, float]:
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()

    def answer(rows: list[list[int]]) -> int:
        ids = torch.tensor(rows)
        with torch.inference_mode():
            out = model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=TOKENS,
                min_new_tokens=TOKENS, pad_token_id=0,
            )  # fmt: skip
        return (out.shape[1] - PROMPT_TOKENS) * len(rows)

    return rate(answer)


def run_first(path: str, cache: str) -> dict[str, float]:
    """Load, generate one token and return its time; the parent measures from the start of the process."""
    from lagent_llms.jax_engine import Engine, SamplingParams

    done = threading.Event()
    with Engine.load(path, cache_dir=cache) as engine:
        greedy = SamplingParams(max_new_tokens=1, temperature=0)
        engine.submit(prompts(1, 0)[0], greedy, on_event=lambda event: done.set())
        done.wait()
        return {"at": time.time()}


CHILDREN = {"engine": run_engine, "torch": run_torch, "first": run_first}


def child(kind: str, path: Path, cache: Path) -> dict[str, float]:
    """Run `CHILDREN` [kind] in a subprocess; return its figures."""
    code = (
        "import json, sys; from benchmarks.engine import CHILDREN\n"
        f"print(json.dumps(CHILDREN[{kind!r}](*sys.argv[1:])))"
    )
    command = [sys.executable, "-c", code, str(path), str(cache)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def measure(quick: bool) -> dict[str, Any]:
    rounds: dict[str, list[dict[str, float]]] = {"engine": [], "torch": []}
    first = []
    with tempfile.TemporaryDirectory() as folder:
        model, cache = Path(folder) / "model", Path(folder) / "xla"
        make_model(model)
        child("first", model, cache)  # fills the compile cache
        for _ in range(1 if quick else 3):
            for kind, found in rounds.items():
                found.append(child(kind, model, cache))
            began = time.time()
            first.append(child("first", model, cache)["at"] - began)
    rates = {}
    for batch in map(str, BATCHES):
        ours, theirs = (statistics.median(one[batch] for one in rounds[kind]) for kind in ("engine", "torch"))
        rates[batch] = {"engine": ours, "torch": theirs, "ratio": ours / theirs}
    return {"tokens_per_cpu_second": rates, "first_token_seconds": statistics.median(first)}


def tables(figures: dict[str, Any]) -> str:
    rows = [
        (batch, f"{row['engine']:.0f}", f"{row['torch']:.0f}", f"{row['ratio']:.2f}x")
        for batch, row in figures["tokens_per_cpu_second"].items()
    ]
    head = ("batch", "engine, tokens per CPU-second", "transformers + torch", "ratio")
    first = figures["first_token_seconds"]
    return f"{report.table(head, rows)}\n\nFrom the start of a process to its first token: {first:.2f} s."


if __name__ == "__main__":
    report.main(NAME, __doc__, measure, tables, packages=("jax", "torch", "transformers"))
