"""Tokens per CPU-second of the JAX engine against transformers + torch, and time to the first token.

Both decode the same random model greedily with the same prompts, each in a process of its own, in turns; CPU
seconds are those of all threads of the process. torch runs on one thread, its best case per CPU-second.

    python benchmarks/engine.py [--json FILE] [--repeats 3] [--tokens 64]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

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
    """A random Llama of about 4 million parameters, with a tokenizer that only names its ids."""
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


def measure(answer: Any, tokens: int) -> dict[str, float]:
    """Tokens per CPU-second by batch size; `answer` takes prompts and gives the number of tokens."""
    figures = {}
    for batch in BATCHES:
        answer(prompts(batch, 0))  # compiles, allocates
        best = 0.0
        for round_ in range(1, 4):
            rows = prompts(batch, round_)
            began = time.process_time()
            count = answer(rows)
            best = max(best, count / (time.process_time() - began))
            assert count == batch * tokens
        figures[str(batch)] = best
    return figures


def run_engine(path: str, cache: str, tokens: int) -> dict[str, float]:
    from lagent_llms.jax_engine import Engine, SamplingParams, TokenEvent

    engine = Engine.load(path, max_slots=max(BATCHES), max_len=512, cache_dir=cache)
    greedy = SamplingParams(max_new_tokens=tokens, temperature=0, ignore_eos=True)

    def answer(rows: list[list[int]]) -> int:
        left, counts, done = [len(rows)], [], threading.Event()

        def told(event: TokenEvent) -> None:
            counts.append(len(event.token_ids))
            if event.finish_reason or event.error:
                left[0] -= 1
                if not left[0]:
                    done.set()

        for row in rows:
            engine.submit(row, greedy, on_event=told)
        done.wait()
        return sum(counts)

    with engine:
        return measure(answer, tokens)


def run_torch(path: str, _cache: str, tokens: int) -> dict[str, float]:
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()

    def answer(rows: list[list[int]]) -> int:
        ids = torch.tensor(rows)
        with torch.inference_mode():
            out = model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=tokens,
                min_new_tokens=tokens, pad_token_id=0,
            )  # fmt: skip
        return (out.shape[1] - PROMPT_TOKENS) * len(rows)

    return measure(answer, tokens)


def run_first(path: str, cache: str, _tokens: int) -> dict[str, float]:
    """Load and one token: its caller times the whole process."""
    from lagent_llms.jax_engine import Engine, SamplingParams

    done = threading.Event()
    with Engine.load(path, cache_dir=cache) as engine:
        greedy = SamplingParams(max_new_tokens=1, temperature=0)
        engine.submit(prompts(1, 0)[0], greedy, on_event=lambda event: done.set())
        done.wait()
        return {"at": time.time()}


def child(kind: str, path: Path, cache: Path, tokens: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", kind, str(path), str(cache), "--tokens", str(tokens)]
    out = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ).stdout
    figures: dict[str, float] = json.loads(out.splitlines()[-1])
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=64, help="new tokens per prompt")
    parser.add_argument("--child", nargs=3, metavar=("KIND", "MODEL", "CACHE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        kind, path, cache = options.child
        runs = {"engine": run_engine, "torch": run_torch, "first": run_first}
        print(json.dumps(runs[kind](path, cache, options.tokens)))
        return
    with tempfile.TemporaryDirectory() as folder:
        model, cache = Path(folder) / "model", Path(folder) / "xla"
        make_model(model)
        rounds: dict[str, list[dict[str, float]]] = {"engine": [], "torch": []}
        first = []
        child("first", model, cache, 1)  # fills the compile cache
        for _ in range(options.repeats):
            for kind, figures in rounds.items():
                figures.append(child(kind, model, cache, options.tokens))
            began = time.time()
            first.append(child("first", model, cache, 1)["at"] - began)
    result: dict[str, Any] = {"first_token_seconds": statistics.median(first), "tokens_per_cpu_second": {}}
    print(f"{'batch':>5} {'engine':>10} {'torch':>10} {'ratio':>7}   (tokens per CPU-second)")
    for batch in map(str, BATCHES):
        ours, theirs = (statistics.median(one[batch] for one in rounds[kind]) for kind in ("engine", "torch"))
        result["tokens_per_cpu_second"][batch] = {"engine": ours, "torch": theirs, "ratio": ours / theirs}
        print(f"{batch:>5} {ours:>10.0f} {theirs:>10.0f} {ours / theirs:>6.2f}x")
    print(f"process start to first token, compile cache warm: {result['first_token_seconds']:.2f} s")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
