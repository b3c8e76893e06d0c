"""A hundred conversations outside the training data, and the embedded model's greedy answers to them.

``python -m tests.conformance.conversations --write`` writes them and JAXPipeline's answers to
tests/data/conversations.json, which backends are compared with where JAX is not installed.
"""

import argparse
import json
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

FILE = Path(__file__).parents[1] / "data" / "conversations.json"
COUNT = 100
LONGEST = 1500  # characters; the model sees 2,048 tokens
AT_ONCE = 8
#: Skills whose prompts contain made-up strings that training never saw.
UNSEEN = ("recall_name", "repeat", "spell", "json", "ask_fact", "copy_code", "upper")


def make_conversations(count=COUNT, seed=2026):
    """Return conversations as lists of turns; a turn is the messages before an answer of the model."""
    from training.words import Lexicon

    lexicon = Lexicon(random.Random(seed), held_out=True)
    made = []
    while len(made) < count:
        turns = _turns(_dialog(lexicon, kind=len(made) % 4))
        if sum(len(message["content"]) for turn in turns for message in turn) < LONGEST:
            made.append(turns)
    return made


def _dialog(lexicon, kind):
    """Return a dialog of two turns or more: with a tool, with Chinese, or with random skills."""
    from training.corpus import add_skill, add_system
    from training.dialog import Dialog
    from training.skills import SKILLS

    dialog = Dialog(lexicon)
    if kind == 0 or lexicon.rng.random() < 0.5:
        add_system(dialog, plugin=kind == 0)
    required = {0: "calculate", 1: "chinese"}.get(kind, "capital")
    skills = [required, lexicon.rng.choice(UNSEEN)]
    others = [name for name in SKILLS if name != "calculate"]
    skills += lexicon.rng.choices(others, k=lexicon.rng.randint(0, 3))
    lexicon.rng.shuffle(skills)
    for skill in skills:
        add_skill(dialog, skill)
    return dialog


def _turns(dialog):
    turns, given = [], []
    for message in dialog.messages:
        if message.role == "assistant":
            turns.append(given)
            given = []
        else:
            named = {"name": "plugin"} if message.name else {}
            given.append({"role": message.role, **named, "content": message.content})
    return turns


def run_conversation(llm, turns, number):
    """Run a conversation with a `Caller`: streamed or not, in a session or with all messages per turn."""
    answers, dialog = [], []
    for index, turn in enumerate(turns):
        dialog += turn
        asked, where = dialog, {}
        if number % 3:
            asked = turn
            last = index == len(turns) - 1
            where = {"session_id": number, "sequence_start": index == 0, "sequence_end": last}
        answer = llm.chunks("stream_chat", asked, **where)[-1] if number % 2 else llm.complete(asked, **where)
        answers.append([answer.text, answer.finish_reason])
        dialog.append({"role": "assistant", "content": answer.text})
    return answers


def run_conversations(llm, conversations):
    """Run all conversations, several at once."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda item: run_conversation(llm, item[1], item[0]), enumerate(conversations)))


def recorded():
    """Return the conversations and the answers in the file."""
    both = json.loads(FILE.read_text(encoding="utf-8"))
    return [item["turns"] for item in both], [item["answers"] for item in both]


def main():
    """Write the file."""
    from lagent_llms import JAXPipeline
    from lagent_llms.testing.conformance import Caller

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", required=True)
    parser.parse_args()
    conversations = make_conversations()
    with JAXPipeline(temperature=0, max_new_tokens=200) as llm:
        answers = run_conversations(Caller(llm), conversations)
    both = [{"turns": turns, "answers": said} for turns, said in zip(conversations, answers, strict=True)]
    lines = ",\n".join(json.dumps(item, ensure_ascii=False) for item in both)
    FILE.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
