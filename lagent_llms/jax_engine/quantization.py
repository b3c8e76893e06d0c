"""Read `quantization_config` of a config.json: which weights are quantized, and how."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .settings import Settings

__all__ = ["Quantization", "Scheme", "read_quantization"]

#: Rows and columns of a weight that share a scale; None for all of them.
Block = tuple[int | None, int | None]

_INSTEAD = "the checkpoint in bfloat16, float16 or float32 that it was made from"
#: What else runs a checkpoint that this engine refuses.
_ELSEWHERE = {"awq": "; LMDeployPipeline runs awq", "gptq": "; LMDeployPipeline runs gptq"}
#: How a configuration of the first versions of bitsandbytes is known; it has no `quant_method`.
_BITSANDBYTES = ("load_in_8bit", "load_in_4bit")
_FORMATS = ("int-quantized", "float-quantized", "naive-quantized", "pack-quantized")
_STRATEGIES = ("tensor", "channel", "group", "block")
_EMBEDDINGS = ("embed_tokens", "tok_embeddings")


@dataclass(frozen=True)
class Scheme:
    """How a weight is stored.

    Attributes:
        stored: Name of the stored weight beside its module, and its type as safetensors names it.
        blocks: Blocks that may share a scale; the shape of the scale decides between several.
        symmetric: True if zero points are optional.
        scales: Names that the scale may have; a weight is the product of the stored number and its scale.
    """

    stored: tuple[str, str]
    blocks: tuple[Block, ...]
    symmetric: bool = True
    scales: tuple[str, ...] = ("weight_scale",)


@dataclass(frozen=True)
class Quantization:
    """The quantized modules of a checkpoint.

    Attributes:
        targets: Targets with their schemes: names of modules, regular expressions after 're:', or classes.
        ignored: Targets that are not quantized.
    """

    targets: tuple[tuple[str, Scheme], ...]
    ignored: tuple[str, ...] = ()

    def scheme(self, module: str) -> Scheme | None:
        """Return the scheme of a module, None if the configuration leaves the module as it is.

        As in compressed-tensors, a name goes before a regular expression, and both before a class.
        """
        kind = "Embedding" if module.rpartition(".")[2] in _EMBEDDINGS else "Linear"
        if any(_matches_name(target, module) or target in (kind, "Module") for target in self.ignored):
            return None
        ordered = sorted(self.targets, key=lambda item: ("re:" in item[0], item[0]))
        named = [scheme for target, scheme in ordered if _matches_name(target, module)]
        return next(iter(named + [scheme for target, scheme in ordered if target in (kind, "Module")]), None)


def read_quantization(config: Settings) -> Quantization | None:
    """Read `quantization_config`, or `compression_config` of older checkpoints; None if there is neither.

    Raises:
        ModelLoadError: The method is not supported, or a value is wrong.
    """
    for key in ("quantization_config", "compression_config"):
        if config.get(key) is None:
            continue
        table = config.table(key)
        method = table.text("quant_method", None)
        if method == "compressed-tensors":
            return _read_compressed_tensors(table)
        if method == "fp8":
            return _read_fp8(table)
        allowed = f"'compressed-tensors' with 8 bits, 'fp8', or {_INSTEAD}{_ELSEWHERE.get(method or '', '')}"
        for flag in _BITSANDBYTES:
            if method is None and table.get(flag):
                table.fail(flag, f"no bitsandbytes; use {allowed}")
        table.fail("quant_method", allowed)
    return None


def _read_compressed_tensors(table: Settings) -> Quantization:
    """Read the configuration of the package compressed-tensors, which llm-compressor writes.

    `kv_cache_scheme` and the schemes of activations say how a server may compute; the weights do not
    depend on them.
    """
    if table.table("sparsity_config").text("format", "dense") != "dense":
        table.fail("sparsity_config", f"one with the format 'dense', or {_INSTEAD}")
    if list(table.table("transform_config").table("config_groups").items()):
        table.fail("transform_config", f"null (weights without transforms), or {_INSTEAD}")
    targets: dict[str, Scheme] = {}
    groups = table.table("config_groups")
    for name, _ in groups.items():
        group = groups.table(name)
        if group.get("weights") is None:
            continue
        format_of = group if group.get("format") is not None else table
        if (form := format_of.text("format", None)) not in _FORMATS:
            format_of.fail("format", f"{', '.join(_FORMATS)}, or {_INSTEAD}")
        scheme = _read_weights(group.table("weights"), packed=form == "pack-quantized")
        targets |= dict.fromkeys(_patterns(group, "targets"), scheme)
    return Quantization(tuple(targets.items()), _patterns(table, "ignore"))


def _read_weights(weights: Settings, *, packed: bool) -> Scheme:
    """Read the scheme of a group's weights."""
    if weights.integer("num_bits", 8) != 8:
        weights.fail("num_bits", f"8, or {_INSTEAD}")
    kind = str(weights.text("type", "int")).lower()
    if kind not in (("int",) if packed else ("int", "float")):
        weights.fail("type", "'int'" if packed else "'int' or 'float'")
    if weights.flag("dynamic"):
        weights.fail("dynamic", "false")
    if weights.get("actorder") not in (None, False, "weight", "static"):
        weights.fail("actorder", f"null or 'weight', or {_INSTEAD}")
    size = weights.integer("group_size", None, least=-1)
    usual = {None: "tensor", -1: "channel"}.get(size, "group")
    strategy = str(weights.text("strategy", usual)).lower()
    if strategy not in _STRATEGIES:
        weights.fail("strategy", ", ".join(_STRATEGIES))
    block: Block = (None, None) if strategy == "tensor" else (1, None)
    if strategy == "group":
        block = (1, weights.integer("group_size"))
    elif strategy == "block":
        block = _read_block(weights, "block_structure")
    stored = ("weight_packed", "I32") if packed else ("weight", "I8" if kind == "int" else "F8_E4M3")
    return Scheme(stored, (block,), weights.flag("symmetric", True))


def _read_fp8(table: Settings) -> Quantization:
    """Read the configuration of FP8 checkpoints as of DeepSeek, Qwen, Mistral and AutoFP8.

    The modules that are quantized are those whose weights in the file are: programs differ in how they read
    `modules_to_not_convert`, and many checkpoints leave modules out without naming them.
    """
    if table.text("fmt", "e4m3") != "e4m3":
        table.fail("fmt", "'e4m3'")
    if table.text("expert_dtype", "fp8") != "fp8":
        table.fail("expert_dtype", f"'fp8', or {_INSTEAD}")
    per_row: tuple[Block, ...] = ((None, None), (1, None))
    if table.get("weight_block_size") is not None:
        blocks: tuple[Block, ...] = (_read_block(table, "weight_block_size"),)
    else:  # null is a scale a tensor or a row; programs that write blocks may leave out the usual size
        blocks = (*per_row, (128, 128))
    scheme = Scheme(("weight", "F8_E4M3"), blocks, scales=("weight_scale_inv", "weight_scale"))
    return Quantization((("Module", scheme),))


def _read_block(table: Settings, key: str) -> Block:
    """Read rows and columns of a block, as [128, 128] or '128x128'."""
    value = table.get(key)
    sizes = value.split("x") if isinstance(value, str) else value
    if (
        not isinstance(sizes, list)
        or len(sizes) != 2
        or not all(re.fullmatch("[1-9][0-9]{0,8}", str(size)) for size in sizes)
    ):
        table.fail(key, "two numbers of 1 or more, such as [128, 128]")
    return int(sizes[0]), int(sizes[1])


def _patterns(table: Settings, key: str) -> tuple[str, ...]:
    """Read targets; their regular expressions must be valid."""
    patterns = table.texts(key) or ()
    for pattern in patterns:
        try:
            re.compile(pattern.removeprefix("re:") if pattern.startswith("re:") else "")
        except (re.error, OverflowError, RecursionError):
            table.fail(key, "a list of names, classes, and regular expressions after 're:'")
    return patterns


def _matches_name(target: str, module: str) -> bool:
    if target.startswith("re:"):
        return re.match(target.removeprefix("re:"), module) is not None
    return target == module
