"""Trains the tokenizer: byte-level BPE with the same pieces for a string at every position.

``python -m training.vocabulary OUT.json`` learns it from freshly made dialogs.
"""

from __future__ import annotations

import argparse
import random
import re
from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

SPECIAL_TOKENS = (
    "<unk>",
    "<s>",
    "</s>",
    "<|im_start|>",
    "<|im_end|>",
    "<|action_start|>",
    "<|action_end|>",
    "<|plugin|>",
    "<|interpreter|>",
)
VOCAB_SIZE = 1024

# A space belongs to the lower-case word after it or to the punctuation before it, never to a capitalised
# word or a number: names and digits get the same tokens after a space, a quote or at the start of a turn.
_PIECES = r"\p{N}| ?\p{Ll}+|\p{Lu}+\p{Ll}*|\p{L}| ?[^\s\p{L}\p{N}]+ ?|\s+"

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + (' name=' + message['name'] if message['name'] else '')"
    " + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

_HAN = re.compile("[\u3000-\u9fff\uff00-\uffef]")


def _plain(text: str) -> str:
    """Drop special tokens and Chinese, which must not become pieces; Chinese stays split into bytes.

    Characters of several tokens test the streaming code of all users of the model.
    """
    for token in SPECIAL_TOKENS:
        text = text.replace(token, "")
    return _HAN.sub("", text)


def train_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """Return a tokenizer of ``VOCAB_SIZE`` tokens learned from ``texts``."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[AddedToken(token, normalized=False, special=True) for token in SPECIAL_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(map(_plain, texts), trainer)
    bos = tokenizer.token_to_id("<s>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", bos)]
    )
    return tokenizer


def make_texts(dialogs: int, seed: int) -> list[str]:
    """Return dialogs to learn the pieces from, with some answers in capitals among them."""
    from training.corpus import make_dialog
    from training.dialog import render
    from training.words import Lexicon

    lexicon = Lexicon(random.Random(seed))
    texts = [render(make_dialog(lexicon).messages) for _ in range(dialogs)]
    for _ in range(dialogs // 30):
        answers = [m.content for m in make_dialog(lexicon).messages if m.role == "assistant"]
        texts += [answer.upper() for answer in answers if "<|" not in answer]
    return texts


def main() -> None:
    """Train the tokenizer from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--dialogs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    train_tokenizer(make_texts(options.dialogs, options.seed)).save(str(options.out))


if __name__ == "__main__":
    main()
