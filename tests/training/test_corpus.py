"""The corpus generator: reproducible, honestly split, in the right format."""

from __future__ import annotations

import random
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import tokenizers

sys.path.insert(0, str(Path(__file__).parents[2]))

from training import phrases
from training.arithmetic import evaluate
from training.corpus import answer_mask, make_dialog, write_shard
from training.dialog import Message, render
from training.words import HELD_OUT_COLOURS, HELD_OUT_NAMES, NAMES, Lexicon, is_held_out

TOKENIZER = Path(__file__).parents[2] / "lagent_llms" / "models" / "embedded" / "tokenizer.json"


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizers.Tokenizer.from_file(str(TOKENIZER))


def dialogs(seed: int, count: int, held_out: bool = False, practice: float = 0.0):
    lexicon = Lexicon(random.Random(seed), held_out)
    return [make_dialog(lexicon, practice=practice) for _ in range(count)]


def test_the_same_seed_makes_the_same_dialogs():
    first = [render(d.messages) for d in dialogs(3, 30)]
    assert first == [render(d.messages) for d in dialogs(3, 30)]
    assert first != [render(d.messages) for d in dialogs(4, 30)]


def test_training_and_evaluation_share_no_names():
    assert not set(NAMES) & set(HELD_OUT_NAMES)
    assert not set(phrases.wordings("COLOURS")) & set(HELD_OUT_COLOURS)
    train, held_out = (
        {Lexicon(random.Random(seed), part).name() for seed in range(4000)} for part in (False, True)
    )
    assert not train & held_out
    assert len(train) > 2000


@pytest.mark.parametrize("part", [False, True])
def test_made_up_strings_are_split_by_checksum(part):
    lexicon = Lexicon(random.Random(0), part)
    for make in (lexicon.made_up_word, lexicon.letters, lexicon.digits, lexicon.chinese_name):
        assert all(is_held_out(make()) is part for _ in range(50))


@pytest.mark.parametrize("practice", [0.0, 1.0])
def test_held_out_names_do_not_appear_in_training_dialogs(practice):
    text = "".join(render(d.messages) for d in dialogs(5, 1500, practice=practice))
    words = set(text.replace(".", " ").replace(",", " ").replace("!", " ").split())
    assert not words & set(HELD_OUT_NAMES)
    assert not words & set(HELD_OUT_COLOURS)


def test_training_and_evaluation_share_no_spelled_words():
    def spelled(held_out: bool) -> set[str]:
        answers = (m.content for d in dialogs(9, 2000, held_out, practice=1.0) for m in d.messages)
        return {answer for answer in answers if re.fullmatch(r"\w(-\w){2,}", answer)}

    training, evaluation = spelled(False), spelled(True)
    assert min(len(training), len(evaluation)) > 500
    assert not training & evaluation


def test_a_dialog_renders_as_internlm2_text():
    messages = [
        Message("system", "You are Luna."),
        Message("system", "[]", "<|plugin|>"),
        Message("user", "Hi"),
        Message("assistant", "Hello!"),
    ]
    assert render(messages) == (
        "<s><|im_start|>system\nYou are Luna.<|im_end|>\n<|im_start|>system name=<|plugin|>\n[]<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello!<|im_end|>\n"
    )


def test_the_mask_covers_exactly_the_assistants_words(tokenizer):
    for dialog in dialogs(6, 60):
        ids = np.array(tokenizer.encode(render(dialog.messages), add_special_tokens=False).ids)
        marked = tokenizer.decode(list(ids[answer_mask(ids, tokenizer)]), skip_special_tokens=False)
        answers = [m.content + "<|im_end|>" for m in dialog.messages if m.role == "assistant"]
        assert marked == "".join(answers)


@pytest.mark.parametrize("practice", [0.0, 1.0])
def test_roles_alternate_and_dialogs_end_with_the_assistant(practice):
    for dialog in dialogs(7, 300, practice=practice):
        roles = [m.role for m in dialog.messages if m.role != "system"]
        assert roles[0] == "user"
        assert roles[-1] == "assistant"
        assert all((role == "assistant") == bool(i % 2) for i, role in enumerate(roles))


def test_a_calculator_call_is_followed_by_its_answer():
    calls = 0
    for dialog in dialogs(8, 300):
        for message, after in zip(dialog.messages, dialog.messages[1:], strict=False):
            if message.role == "assistant" and message.content.startswith("<|action_start|>"):
                calls += 1
                assert dialog.plugin
                assert after.role == "environment"
    assert calls > 50


@pytest.mark.parametrize(
    ("expression", "value"), [("231 * 17", "3927"), ("8 / 2", "4"), ("1 / 0", "error: division by zero")]
)
def test_the_calculator(expression, value):
    assert evaluate(expression) == value


def test_a_shard_holds_every_dialog(tmp_path, tokenizer):
    lexicon = Lexicon(random.Random(1))
    write_shard(tmp_path / "shard-1.npz", tokenizer, lambda: make_dialog(lexicon).messages, 40)
    with np.load(tmp_path / "shard-1.npz") as shard:
        assert 35 <= len(shard["ends"]) <= 40
        assert shard["ends"][-1] == len(shard["ids"]) == len(shard["marks"])
        assert (shard["ids"][shard["ends"] - 1] == tokenizer.token_to_id("<|im_end|>")).all()
