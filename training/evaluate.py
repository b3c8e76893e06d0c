"""Measures a checkpoint on unseen dialogs: ``python -m training.evaluate MODEL_DIR [--adapter DIR]``.

Every case is the end of a held-out dialog: one question (or a whole calculator round trip), decoded greedily
and compared character by character.  Prints a table, writes JSON on request, and exits with 1 when a skill
falls short of its threshold.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

from training.cases import Case, parts_of
from training.corpus import add_skill, add_system
from training.dialog import Dialog
from training.skills import SKILLS
from training.words import Lexicon

THRESHOLDS = {
    "calculate": 0.98,
    "who": 0.98,
    "recall_name": 0.98,
    "ask_name": 0.98,
    "capital": 1.0,
    "chinese": 1.0,
}
"""What skills must reach that have to be better than the rest."""
THRESHOLD = 0.95
"""What every other skill must reach."""
CONTEXT_SKILLS = (
    "greet",
    "who",
    "recall_name",
    "capital",
    "one_digit_sum",
    "repeat",
    "spell",
    "json",
    "chinese",
)
WITH_TOOL = "with_tool"
"""Name under which ordinary questions with a tool list in the system prompt are counted."""
LONG_DECIMAL = "long_decimal"
"""Name under which calculations with results of more than ten digits are counted, 0.3333333333333333 say."""


def make_case(skill: str, lexicon: Lexicon) -> Case:
    """Return one unseen case of a skill, half of them deep inside a conversation."""
    rng = lexicon.rng
    while True:
        d = Dialog(lexicon)
        wanted = skill
        if skill == WITH_TOOL:
            wanted = rng.choice(["greet", "who", "recall_name", "capital", "repeat", "chinese", "json"])
        if skill == LONG_DECIMAL:
            wanted = "calculate"
        if wanted == "calculate" or skill == WITH_TOOL:
            add_system(d, plugin=True)
        elif rng.random() < 0.75:
            add_system(d, plugin=False if wanted == "one_digit_sum" else None)
        if rng.random() < 0.5:
            for _ in range(rng.choice((1, 1, 2, 3, 4))):
                add_skill(d, "calculate" if d.plugin and rng.random() < 0.4 else rng.choice(CONTEXT_SKILLS))
        if wanted == "count" and len(d.messages) > 6:
            continue
        add_skill(d, wanted)
        first = max(i for i, message in enumerate(d.messages) if message.role == "user")
        if wanted == "calculate":
            result = d.messages[-1].content.rpartition("= ")[2]
            if (sum(map(str.isdigit, result)) > 10) is not (skill == LONG_DECIMAL):
                continue
        return Case(skill, parts_of(d.messages, first))


def make_cases(count: int, seed: int) -> list[Case]:
    """Return ``count`` cases of each skill."""
    cases = []
    for skill in [*SKILLS, WITH_TOOL, LONG_DECIMAL]:
        lexicon = Lexicon(random.Random(f"{skill}-{seed}"), held_out=True)
        cases += [make_case(skill, lexicon) for _ in range(count // 3 if skill == "count" else count)]
    return cases


@torch.inference_mode()
def answer(model: Any, tokenizer: Any, prompts: list[str], batch: int = 96, longest: int = 420) -> list[str]:
    """Return the greedy answer to each prompt, without the end-of-turn token."""
    stop = tokenizer.convert_tokens_to_ids("<|im_end|>")
    answers = [""] * len(prompts)
    encoded = [tokenizer.encode(prompt, add_special_tokens=False) for prompt in prompts]
    order = sorted(range(len(prompts)), key=lambda i: len(encoded[i]))
    for begin in range(0, len(order), batch):
        chosen = order[begin : begin + batch]
        width = max(len(encoded[i]) for i in chosen)
        ids = torch.tensor([[stop] * (width - len(encoded[i])) + encoded[i] for i in chosen])
        mask = torch.tensor([[0] * (width - len(encoded[i])) + [1] * len(encoded[i]) for i in chosen])
        made = model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=longest, do_sample=False, pad_token_id=stop
        )
        for index, row in zip(chosen, made[:, width:].tolist(), strict=True):
            row = row[: row.index(stop)] if stop in row else row
            answers[index] = tokenizer.decode(row, skip_special_tokens=False)
    return answers


def measure(model: Any, tokenizer: Any, cases: list[Case], show: int = 0) -> dict[str, dict[str, Any]]:
    """Return right and total counts per skill, with examples of what went wrong."""
    by_skill: dict[str, list[str]] = defaultdict(list)  # answers of one skill are about equally long
    for case in cases:
        by_skill[case.skill] += [prompt for prompt, _ in case.parts]
    answers = {skill: iter(answer(model, tokenizer, prompts)) for skill, prompts in by_skill.items()}
    table: dict[str, dict[str, Any]] = defaultdict(lambda: {"right": 0, "cases": 0, "wrong": []})
    for case in cases:
        row = table[case.skill]
        got = [(prompt, expected, next(answers[case.skill])) for prompt, expected in case.parts]
        row["cases"] += 1
        wrong = [item for item in got if item[1] != item[2]]
        if not wrong:
            row["right"] += 1
        elif len(row["wrong"]) < show:
            row["wrong"].append({"prompt": wrong[0][0], "expected": wrong[0][1], "got": wrong[0][2]})
    return dict(table)


def load(folder: Path, adapter: Path | None) -> tuple[Any, Any]:
    """Load model and tokenizer, with an adapter on top when one is named."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    if adapter is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(adapter)).eval()
    return model, AutoTokenizer.from_pretrained(folder)


def main() -> int:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--adapter", type=Path, default=None)
    parser.add_argument("--cases", type=int, default=100, help="cases of each skill")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=int, default=0, help="wrong answers to print per skill")
    parser.add_argument("--json", type=Path, default=None, help="also write the figures to this file")
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    model, tokenizer = load(options.model, options.adapter)
    if options.adapter is None:
        cases = make_cases(options.cases, options.seed)
    else:
        from training.adapters import make_adapter_cases

        cases = make_adapter_cases(options.adapter.name, options.cases, options.seed)
    table = measure(model, tokenizer, cases, options.show)
    short = False
    for skill, row in table.items():
        share, threshold = row["right"] / row["cases"], THRESHOLDS.get(skill, THRESHOLD)
        short |= share < threshold
        mark = "" if share >= threshold else f"  below {threshold:.0%}"
        print(f"{skill:16} {row['right']:5} / {row['cases']:<5} {share:7.1%}{mark}")
        for item in row["wrong"]:
            print("   ", json.dumps(item["prompt"][-160:], ensure_ascii=False))
            print("    expected", json.dumps(item["expected"], ensure_ascii=False))
            print("    got     ", json.dumps(item["got"], ensure_ascii=False))
    right, total = (sum(row[key] for row in table.values()) for key in ("right", "cases"))
    print(f"{'all':16} {right:5} / {total:<5} {right / total:7.1%}")
    if options.json:
        figures = {skill: {"right": row["right"], "cases": row["cases"]} for skill, row in table.items()}
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return int(short)


if __name__ == "__main__":
    sys.exit(main())
