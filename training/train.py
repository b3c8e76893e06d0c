"""Trains the network on shards of dialogs: ``python -m training.train --data DIR --out DIR --minutes 60``.

A run stops after ``--steps`` steps or, with ``--minutes``, when that much time is used up; the learning rate
follows whichever comes first.  A killed run goes on with ``--resume``, with the same data or other data.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16384")  # rows come in many shapes

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from training.model import Groups, Llama, ModelConfig
from training.optimizer import make_optimizers, rate

ROW_LENGTHS = (32, 48, 64, 80, 104, 128, 160, 192, 232, 272, 320, 384, 448, 528, 640, 768, 1024)
OTHER_WEIGHT = 0.3
"""Weight of a token that the assistant did not write (only some of them are predicted at all)."""


class Batches:
    """Draws random dialogs from shards and packs them into rows of a few different lengths."""

    def __init__(self, folder: Path, tokens: int, seed: int) -> None:
        self.folder, self.tokens = folder, tokens
        self.random = random.Random(seed)
        self.used: list[str] = []
        self.order: list[int] = []

    def _next_shard(self) -> None:
        names = sorted(path.name for path in self.folder.glob("shard-*.npz") if ".part" not in path.name)
        fresh = [name for name in names if name not in self.used]
        if not fresh:
            self.used, fresh = [], names
        self.used.append(fresh[0])
        with np.load(self.folder / fresh[0]) as shard:
            self.ids, self.marks, self.ends = shard["ids"], shard["marks"], shard["ends"]
        self.order = list(range(len(self.ends)))
        self.random.shuffle(self.order)

    def next(self) -> tuple[Tensor, Groups, Tensor, Tensor, Tensor]:
        """Return tokens, groups, chosen positions, their targets and their weights."""
        rows: dict[int, list[int]] = {}
        room = self.tokens
        while True:
            if not self.order:
                if rows:
                    break
                self._next_shard()
            dialog = self.order[-1]
            first = int(self.ends[dialog - 1]) if dialog else 0
            length = int(self.ends[dialog]) - first - 1
            row_length = next(size for size in ROW_LENGTHS if size >= length)
            if row_length > room:
                break
            rows.setdefault(row_length, []).append(self.order.pop())
            room -= row_length
        tokens = np.zeros(self.tokens, dtype=np.int64)
        targets = np.zeros(self.tokens, dtype=np.int64)
        marks = np.zeros(self.tokens, dtype=np.uint8)
        start, groups = 0, []
        for row_length in sorted(rows):
            groups.append((len(rows[row_length]), row_length))
            for dialog in rows[row_length]:
                first = int(self.ends[dialog - 1]) if dialog else 0
                last = int(self.ends[dialog])
                length = last - first - 1
                tokens[start : start + length] = self.ids[first : last - 1]
                targets[start : start + length] = self.ids[first + 1 : last]
                marks[start : start + length] = self.marks[first + 1 : last]
                start += row_length
        if room:
            groups.append((room, 1))
        chosen = np.flatnonzero(marks)
        weights = np.where(marks[chosen] == 2, 1.0, OTHER_WEIGHT).astype(np.float32)
        padding = -len(chosen) % 256  # few different shapes: matrix kernels are compiled for each
        chosen, weights = np.pad(chosen, (0, padding)), np.pad(weights, (0, padding))
        return (
            torch.from_numpy(tokens),
            tuple(groups),
            torch.from_numpy(chosen),
            torch.from_numpy(targets[chosen]),
            torch.from_numpy(weights),
        )


def losses_of(
    model: torch.nn.Module, batch: tuple[Tensor, Groups, Tensor, Tensor, Tensor], device: str, bfloat16: bool
) -> tuple[Tensor, Tensor]:
    """Return each predicted token's loss and its weight."""
    tokens, groups, chosen, targets, weights = batch
    with torch.autocast(device, dtype=torch.bfloat16, enabled=bfloat16):
        logits = model(tokens.to(device), groups, chosen.to(device))
    return F.cross_entropy(logits.float(), targets.to(device), reduction="none"), weights.to(device)


def save_checkpoint(
    path: Path, model: Llama, optimizers: list[torch.optim.Optimizer], state: dict[str, Any]
) -> None:
    """Write everything that `--resume` needs, atomically (with one rename)."""
    temporary = path.with_suffix(".part")
    torch.save(
        {
            "model": model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in optimizers],
            "random": torch.get_rng_state(),
            "state": state,
        },
        temporary,
    )
    temporary.rename(path)


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of shards")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoint and log")
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--minutes", type=float, default=None, help="stop (and plan the rate) by the clock")
    parser.add_argument("--tokens", type=int, default=5120, help="tokens in one step")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--weight-decay", type=float, default=0.05)
    parser.add_argument("--steady", type=float, default=0.45, help="where in the run the rate starts to fall")
    parser.add_argument("--warm-up", type=float, default=0.01)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--restart-schedule", action="store_true", help="count this run's progress from zero")
    parser.add_argument("--save-every", type=int, default=250)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--float32", action="store_true", help="no bfloat16 anywhere")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    """Train from the command line."""
    options = parse_options()
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    config = ModelConfig()
    model = Llama(config).to(options.device)
    optimizers = make_optimizers(model, options.lr, options.weight_decay)
    batches = Batches(options.data, options.tokens, options.seed)
    state: dict[str, Any] = {"step": 0, "seconds": 0.0, "tokens": 0, "from_step": 0, "from_seconds": 0.0}
    checkpoint = options.out / "checkpoint.pt"
    if options.resume and checkpoint.exists():
        loaded = torch.load(checkpoint, map_location=options.device, weights_only=True)
        model.load_state_dict(loaded["model"])
        for optimizer, saved in zip(optimizers, loaded["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        torch.set_rng_state(loaded["random"].cpu())
        state = loaded["state"]
        batches.used = list(state.get("used", []))
        batches.random.seed(options.seed + state["step"])
    if options.restart_schedule:
        state["from_step"], state["from_seconds"] = state["step"], state["seconds"]
    log = (options.out / "log.jsonl").open("a", encoding="utf-8")
    log.write(
        json.dumps({"config": asdict(config), "options": {k: str(v) for k, v in vars(options).items()}})
        + "\n"
    )
    mean_loss, began = 0.0, time.monotonic() - state["seconds"]
    while True:
        progress = (state["step"] - state["from_step"]) / options.steps
        if options.minutes:
            progress = max(progress, (state["seconds"] - state["from_seconds"]) / (60 * options.minutes))
        done = progress >= 1
        if done or (state["step"] % options.save_every == 0 and state["step"]):
            state["used"] = batches.used
            save_checkpoint(checkpoint, model, optimizers, state)
        if done:
            break
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = options.lr * rate(progress, options.warm_up, options.steady)
        losses, weights = losses_of(model, batches.next(), options.device, not options.float32)
        loss = (losses * weights).sum() / weights.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        answers = weights == 1.0
        value = float(losses.detach()[answers].mean())
        mean_loss = value if not mean_loss else 0.98 * mean_loss + 0.02 * value
        state["step"] += 1
        state["tokens"] += options.tokens
        state["seconds"] = time.monotonic() - began
        if state["step"] % 25 == 0:
            line = {"step": state["step"], "loss": round(mean_loss, 4), "seconds": round(state["seconds"], 1)}
            log.write(json.dumps(line | {"rate": optimizers[0].param_groups[0]["lr"]}) + "\n")
            log.flush()
    print(json.dumps(state))


if __name__ == "__main__":
    main()
