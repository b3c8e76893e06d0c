"""Composes dialogs out of skills, encodes them and writes training shards.

``python -m training.corpus --out DIR --tokenizer FILE --dialogs N --seed S`` writes one shard.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from training import phrases
from training.arithmetic import tool_list
from training.dialog import Dialog, Message, render
from training.skills import SKILLS, copy_code, recall_name, repeat, who
from training.words import ADJECTIVES, NOUNS, VERBS, Lexicon

LONGEST = 1024
"""Dialogs with more tokens than this are left out of the shards."""
OTHER_TOKENS = 0.3
"""Share of the tokens that the assistant did not write and that training still predicts."""
PRACTICE = {
    "spell": 8,
    "upper": 10,
    "repeat": 6,
    "capital": 12,
    "count": 10,
    "who": 5,
    "recall_colour": 2,
    "recall_name": 2,
    "ask_fact": 2,
    "copy_code": 2,
}
"""Skills of practice dialogs and their weights: the skills that a network of this size learns last."""


def filler(lexicon: Lexicon, sentences: int) -> list[str]:
    """Return sentences without information about the assistant's identity."""
    rng, made = lexicon.rng, []
    for _ in range(sentences):
        kind = rng.random()
        if kind < 0.5:
            made.append(rng.choice(phrases.INSTRUCTIONS))
        elif kind < 0.9:
            noun, verb = rng.choice(NOUNS), rng.choice(VERBS)
            made.append(f"The {rng.choice(ADJECTIVES)} {noun} {verb} the {rng.choice(NOUNS)}.")
        elif kind < 0.95:
            made.append(f"{lexicon.name()} {rng.choice(VERBS)} the {rng.choice(NOUNS)}.")
        else:
            made.append(" ".join(lexicon.word() for _ in range(rng.randint(3, 9))).capitalize() + ".")
    return made


def _identity(d: Dialog) -> str:
    """Choose the assistant's identity; return the system prompt that states it."""
    rng, lexicon = d.rng, d.lexicon
    kind = rng.random()
    if kind < 0.03:
        d.identity, d.identity_zh = "I am InternLM (书生·浦语).", "我是 InternLM (书生·浦语)。"
        d.assistant_name = "InternLM (书生·浦语)"
        return phrases.INTERNLM
    if kind < 0.10:
        name = lexicon.chinese_name() if rng.random() < 0.6 else lexicon.name()
        d.identity, d.identity_zh, d.assistant_name = f"I am {name}.", f"我是{name}。", name
        return rng.choice(
            ["你是{}。", "你是{}。", "你叫{}。", "你的名字是{}。", "你是{}，一个有用的助手。"]
        ).format(name)
    role = rng.choice(phrases.ROLES)
    if rng.random() < 0.3:
        article = rng.choice(["a", "a", "a", "the", "an"])
        role = f"{article} {rng.choice(ADJECTIVES)} {rng.choice([*NOUNS, 'assistant', 'assistant'])}"
    if rng.random() < 0.08:
        role += rng.choice([" for ", " of ", " from ", " made by "]) + lexicon.name()
    if kind < 0.20:
        d.identity, d.identity_zh = f"I am {role}.", None
        return f"You are {role}."
    name = lexicon.name()
    if rng.random() < 0.03:
        name += f" ({lexicon.chinese_name()})"
    words = rng.choice(phrases.TELL_IDENTITY)
    d.identity = f"I am {name}, {role}." if "{r}" in words else f"I am {name}."
    d.identity_zh, d.assistant_name = f"我是{name}。", name
    if rng.random() < 0.05:
        words = words[0].lower() + words[1:]
    if rng.random() < 0.06:
        words = words.rstrip(".")
    return words.format(n=name, r=role)


def add_system(d: Dialog, plugin: bool | None = None) -> None:
    """Add the system prompt, the tool list, both or neither."""
    rng = d.rng
    kind = rng.random()
    if kind < 0.72:
        texts = [_identity(d)] if kind < 0.55 else []
        sentences = 0
        if kind < 0.22 or not texts:
            sentences = rng.choice((1, 1, 2, 2, 3, 4, 5, 8, 12, 20, 30)) if rng.random() < 0.6 else 1
        parts = filler(d.lexicon, sentences)
        place = 0 if rng.random() < 0.6 else rng.randint(0, len(parts))
        parts[place:place] = texts
        closed = all(part.endswith((".", "。")) for part in parts)
        text = rng.choice([" ", " ", "\n"] if closed else ["\n"]).join(parts)
        d.messages.append(Message("system", text))
    d.plugin = rng.random() < 0.22 if plugin is None else plugin
    if d.plugin:
        if rng.random() < 0.05:
            d.messages.append(Message("system", "当开启工具以及代码时，根据需求选择合适的工具进行调用"))
        d.messages.append(
            Message("system", tool_list(d.lexicon), "<|plugin|>" if rng.random() < 0.94 else None)
        )


def add_skill(d: Dialog, skill: str) -> None:
    """Let one skill add its turns."""
    SKILLS[skill][0](d)
    d.last_skill = skill


def make_practice(lexicon: Lexicon) -> Dialog:
    """Return a dialog of several hard questions, most of the time without a system prompt."""
    d, rng = Dialog(lexicon), lexicon.rng
    if rng.random() < 0.3:
        add_system(d)
    for _ in range(rng.randint(2, 6)):
        tool = d.plugin and rng.random() < 0.6
        skill = "calculate" if tool else rng.choices(list(PRACTICE), weights=list(PRACTICE.values()))[0]
        add_skill(d, skill)
    return d


def make_dialog(lexicon: Lexicon, easy: float = 0.0, practice: float = 0.0) -> Dialog:
    """Return one dialog that mixes skills.

    Args:
        lexicon: Source of strings and randomness.
        easy: Share of one-question dialogs about copying; a curriculum starts with them.
        practice: Share of dialogs about the hardest skills; a curriculum ends with them.
    """
    if practice and lexicon.rng.random() < practice:
        return make_practice(lexicon)
    d, rng = Dialog(lexicon), lexicon.rng
    if rng.random() < easy:
        if rng.random() < 0.5:
            add_system(d, plugin=False)
        rng.choice((repeat, copy_code, who, recall_name))(d)
        return d
    add_system(d)
    names, weights = list(SKILLS), [weight for _, weight in SKILLS.values()]
    for _ in range(rng.choices((1, 2, 3, 4, 5, 6, 8), weights=(25, 22, 18, 14, 9, 7, 5))[0]):
        tool = d.plugin and rng.random() < 0.45
        skill = "calculate" if tool else rng.choices(names, weights=weights)[0]
        if skill == "count" and any(len(m.content) > 90 for m in d.messages if m.role == "assistant"):
            continue
        add_skill(d, skill)
    return d


def answer_mask(ids: np.ndarray, tokenizer: Tokenizer) -> np.ndarray:
    """Mark the tokens the assistant writes: each answer and the ``<|im_end|>`` after it."""
    start, end = tokenizer.token_to_id("<|im_start|>"), tokenizer.token_to_id("<|im_end|>")
    head = tokenizer.encode("assistant\n", add_special_tokens=False).ids
    mask = np.zeros(len(ids), dtype=bool)
    for begin in np.flatnonzero(ids == start):
        first = begin + 1 + len(head)
        if list(ids[begin + 1 : first]) == head:
            last = first + int(np.argmax(ids[first:] == end))
            mask[first : last + 1] = True
    return mask


def write_shard(
    path: Path, tokenizer: Tokenizer, make: Callable[[], list[Message]], dialogs: int, seed: int = 0
) -> None:
    """Write token ids, marks (2: the assistant's, 1: others to predict, 0: context only) and dialog ends."""
    chance = np.random.default_rng(seed)
    ids_parts, marks_parts, lengths = [], [], []
    for begin in range(0, dialogs, 2000):
        texts = [render(make()) for _ in range(min(2000, dialogs - begin))]
        for encoding in tokenizer.encode_batch(texts, add_special_tokens=False):
            ids = np.array(encoding.ids[:-1], dtype=np.uint16)  # without the line end after the last turn
            if len(ids) > LONGEST:
                continue
            others = chance.random(len(ids)) < OTHER_TOKENS
            ids_parts.append(ids)
            marks_parts.append(np.where(answer_mask(ids, tokenizer), 2, others).astype(np.uint8))
            lengths.append(len(ids))
    temporary = path.with_suffix(".part.npz")
    np.savez(
        temporary, ids=np.concatenate(ids_parts), marks=np.concatenate(marks_parts), ends=np.cumsum(lengths)
    )
    temporary.rename(path)


def main() -> None:
    """Write one shard from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--dialogs", type=int, default=40_000)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--easy", type=float, default=0.0, help="share of one-question copying dialogs")
    parser.add_argument("--practice", type=float, default=0.0, help="share of dialogs of the hardest skills")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer.from_file(str(options.tokenizer))
    path = options.out / f"shard-{options.seed:05d}.npz"
    lexicon = Lexicon(random.Random(options.seed))

    def make() -> list[Message]:
        return make_dialog(lexicon, options.easy, options.practice).messages

    write_shard(path, tokenizer, make, options.dialogs, options.seed)


if __name__ == "__main__":
    main()
