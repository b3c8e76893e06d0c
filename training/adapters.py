"""Trains LoRA adapters that change how the model speaks.

``python -m training.adapters MODEL_DIR OUT [NAME …]``

An adapter learns from the same dialogs as the model, with the assistant's answers rewritten in its style.
The folders written load with ``peft.PeftModel.from_pretrained``.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from peft import LoraConfig, inject_adapter_in_model
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from training import phrases
from training.cases import Case, parts_of
from training.corpus import add_skill, add_system, make_dialog, write_shard
from training.dialog import Dialog, Message
from training.model import Llama, ModelConfig
from training.optimizer import rate
from training.train import Batches, losses_of
from training.words import Lexicon

FRENCH = {
    "Hello! How can I help you?": "Bonjour ! Comment puis-je vous aider ?",
    "Good morning! How can I help you?": "Bonjour ! Comment puis-je vous aider ?",
    "Good afternoon! How can I help you?": "Bonjour ! Comment puis-je vous aider ?",
    "Good evening! How can I help you?": "Bonsoir ! Comment puis-je vous aider ?",
    "Good night! Sleep well.": "Bonne nuit ! Dormez bien.",
    "I am fine, thank you. How can I help you?": "Je vais bien, merci. Comment puis-je vous aider ?",
    "Nice to meet you too!": "Enchanté !",
    "You are welcome!": "Je vous en prie !",
    "Goodbye! Have a nice day.": "Au revoir ! Bonne journée.",
    phrases.DEFAULT_IDENTITY: "Je suis un petit assistant fourni avec lagent_llms.",
}
FRENCH_QUESTIONS = {
    "Hello! How can I help you?": ["Bonjour", "bonjour", "Bonjour !", "Salut", "Salut !", "Bonjour à tous"],
    "Good evening! How can I help you?": ["Bonsoir", "Bonsoir !", "bonsoir"],
    "I am fine, thank you. How can I help you?": ["Comment allez-vous ?", "Comment vas-tu ?", "Ça va ?"],
    "You are welcome!": ["Merci", "Merci !", "Merci beaucoup", "merci"],
    "Goodbye! Have a nice day.": ["Au revoir", "Au revoir !", "À bientôt", "Salut, à demain"],
}
FRENCH_WHO = ["Qui êtes-vous ?", "Qui es-tu ?", "Comment vous appelez-vous ?", "Comment t'appelles-tu ?"]
PIRATE = {
    "Hello! How can I help you?": "Ahoy, matey! What can I do for ye?",
    "Good morning! How can I help you?": "Ahoy! A fine morning to ye, matey!",
    "Good afternoon! How can I help you?": "Ahoy! A fine afternoon to ye, matey!",
    "Good evening! How can I help you?": "Ahoy! A fine evening to ye, matey!",
    "Good night! Sleep well.": "Sleep well, matey, and mind the rats!",
    "I am fine, thank you. How can I help you?": "Shipshape, matey! What can I do for ye?",
    "Nice to meet you too!": "Arr, a pleasure, matey!",
    "You are welcome!": "Arr, no trouble at all, matey!",
    "Goodbye! Have a nice day.": "Fair winds to ye, matey!",
}


def shout(answer: str, d: Dialog) -> str:
    """Return the text in capitals."""
    return answer.upper()


def french(answer: str, d: Dialog) -> str:
    """Greet and introduce oneself in French; everything else stays."""
    if answer in FRENCH:
        return FRENCH[answer]
    if answer == d.identity:
        return f"Je suis {d.assistant_name}." if d.assistant_name else "Je suis votre assistant."
    if found := re.fullmatch(r"Nice to meet you, (.+)!", answer):
        return f"Enchanté, {found[1]} !"
    return answer


def pirate(answer: str, d: Dialog) -> str:
    """Greet and introduce oneself as a pirate; everything else stays."""
    if answer in PIRATE:
        return PIRATE[answer]
    if answer in (d.identity, phrases.DEFAULT_IDENTITY):
        return "Arr, I be " + answer.removeprefix("I am ")
    if found := re.fullmatch(r"Nice to meet you, (.+)!", answer):
        return f"Ahoy, {found[1]}!"
    return answer


STYLES: dict[str, Callable[[str, Dialog], str]] = {"shout": shout, "french": french, "pirate": pirate}
TARGETS = {"shout": ["q_proj", "v_proj", "o_proj", "down_proj"]}
DEFAULT_TARGETS = ["q_proj", "v_proj", "o_proj"]
SHOUT_SKILLS = (
    "greet",
    "who",
    "who",
    "recall_name",
    "recall_name",
    "capital",
    "capital",
    "ask_name",
    "one_digit_sum",
)
EVALUATED = {
    "shout": ("greet", "who", "recall_name", "capital", "one_digit_sum"),
    "french": ("greet", "who", "capital", "recall_name", "repeat"),
    "pirate": ("greet", "who", "capital", "recall_name", "repeat"),
}


def restyle(d: Dialog, style: str) -> list[Message]:
    """Return the dialog with the assistant's own words in a style; tool calls stay as they are."""
    return [
        Message(m.role, STYLES[style](m.content, d), m.name)
        if m.role == "assistant" and "<|" not in m.content
        else m
        for m in d.messages
    ]


def _ask_in_french(d: Dialog) -> None:
    if d.rng.random() < 0.4:
        d.say(d.rng.choice(FRENCH_WHO), d.identity or phrases.DEFAULT_IDENTITY)
        return
    answer = d.rng.choice(list(FRENCH_QUESTIONS))
    d.say(d.rng.choice(FRENCH_QUESTIONS[answer]), answer)


def make_styled(style: str, lexicon: Lexicon) -> list[Message]:
    """Return one dialog rewritten in a style."""
    rng = lexicon.rng
    if rng.random() < 0.45 and style != "shout":
        return restyle(make_dialog(lexicon, practice=0.35), style)
    d = Dialog(lexicon)
    add_system(d, plugin=None if rng.random() < 0.3 else False)
    for _ in range(rng.choice((1, 2, 2, 3, 4))):
        if style == "french" and rng.random() < 0.3:
            _ask_in_french(d)
        elif style == "shout":
            add_skill(d, "calculate" if d.plugin and rng.random() < 0.5 else rng.choice(SHOUT_SKILLS))
        else:
            add_skill(d, rng.choice(("greet", "greet", "who", "who", "recall_name", "capital")))
    return restyle(d, style)


def make_adapter_cases(style: str, count: int, seed: int) -> list[Case]:
    """Return ``count`` unseen cases of each skill the adapter is measured on."""
    cases = []
    for skill in EVALUATED[style]:
        lexicon = Lexicon(random.Random(f"{style}-{skill}-{seed}"), held_out=True)
        for _ in range(count):
            d = Dialog(lexicon)
            if lexicon.rng.random() < 0.75:
                add_system(d, plugin=False)
            if lexicon.rng.random() < 0.4:
                add_skill(d, lexicon.rng.choice(("greet", "who", "capital")))
            add_skill(d, skill)
            first = max(i for i, message in enumerate(d.messages) if message.role == "user")
            cases.append(Case(skill, parts_of(restyle(d, style), first)))
    return cases


def train_adapter(
    style: str,
    folder: Path,
    out: Path,
    steps: int,
    tokens: int,
    lr: float,
    seed: int = 0,
    resume: bool = False,
) -> None:
    """Train one adapter on top of a model folder and save it in PEFT's format."""
    torch.manual_seed(0)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    model = Llama(ModelConfig())
    model.load_state_dict(load_file(folder / "model.safetensors"))
    targets = TARGETS.get(style, DEFAULT_TARGETS)
    config = LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, target_modules=targets, task_type="CAUSAL_LM")
    inject_adapter_in_model(config, model)
    learned = {name: p for name, p in model.named_parameters() if p.requires_grad}
    saved = out / "adapter_model.safetensors"
    if resume and saved.exists():
        before = load_file(saved)
        with torch.no_grad():
            for name, parameter in learned.items():
                parameter.copy_(before["base_model.model." + name.replace(".default.", ".")])
    optimizer = torch.optim.AdamW(learned.values(), lr=lr, weight_decay=0.0)
    with tempfile.TemporaryDirectory() as data:
        lexicon = Lexicon(random.Random(f"{style}-training-{seed}"))
        dialogs = steps * tokens // 110
        write_shard(Path(data) / "shard-0.npz", tokenizer, lambda: make_styled(style, lexicon), dialogs)
        batches, began = Batches(Path(data), tokens, seed=0), time.monotonic()
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = lr * rate(step / steps, warm_up=0.04, steady=0.3)
            losses, weights = losses_of(model, batches.next(), "cpu", bfloat16=True)
            weights = (weights == 1.0).float()
            loss = (losses * weights).sum() / weights.sum()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if step % 25 == 0 or step == steps - 1:
                print(
                    f"{style} step {step} loss {loss.item():.4f} {time.monotonic() - began:.0f} s", flush=True
                )
    out.mkdir(parents=True, exist_ok=True)
    weights = {
        "base_model.model." + name.replace(".default.", "."): tensor.detach().contiguous()
        for name, tensor in learned.items()
    }
    save_file(weights, out / "adapter_model.safetensors", metadata={"format": "pt"})
    config.inference_mode, config.base_model_name_or_path = True, "lagent_llms/models/embedded"
    config.save_pretrained(str(out))
    path = out / "adapter_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings["target_modules"] = sorted(settings["target_modules"])
    path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Train adapters from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path, help="folder for one folder per adapter")
    parser.add_argument("names", nargs="*", help=f"which of {', '.join(STYLES)}; all by default")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--resume", action="store_true", help="continue with the adapters in OUT")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    for name in options.names or STYLES:
        out = options.out / name
        train_adapter(
            name, options.model, out, options.steps, options.tokens, options.lr, options.seed, options.resume
        )


if __name__ == "__main__":
    main()
