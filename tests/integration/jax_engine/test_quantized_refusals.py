"""Quantized checkpoints that do not fit their configuration, and unsupported schemes, are refused."""

from __future__ import annotations

import copy
import functools
import math

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from lagent_llms.errors import ModelLoadError
from lagent_llms.jax_engine.config import ModelConfig

from . import checkpoints
from .conftest import logits, prompt_of
from .quantized import FP8, compressed, float8, group, int8, split, write
from .test_quantized import COMPRESSED, GROUPS, INPUTS

PROMPT = prompt_of(40)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A Llama checkpoint whose sizes are no multiples of 4 and 16."""
    return checkpoints.make("llama", tmp_path_factory.mktemp("models") / "source", intermediate_size=50)


def fails(path, *words):
    with pytest.raises(ModelLoadError) as caught:
        logits(path, PROMPT)
    for word in words:
        assert word in str(caught.value)


UP = "model.layers.1.mlp.up_proj"


def change(path, drop=(), **parts):
    """Remove and replace parts of one weight."""
    weights = load_file(path / "model.safetensors")
    for part in drop:
        del weights[f"{UP}.{part}"]
    weights |= {f"{UP}.{part}": value for part, value in parts.items()}
    save_file(weights, path / "model.safetensors")


WEIGHT = torch.ones(50, 32).to(torch.int8)
NAN = torch.ones(50, 1).index_fill_(0, torch.tensor([3]), float("nan"))


@pytest.mark.parametrize(
    ("name", "drop", "parts", "words"),
    [
        ("int8-channel", ["weight_scale"], {}, ["weight'", "weight_scale is missing"]),
        ("packed-channel", ["weight_scale"], {}, ["weight_packed'", "weight_scale is missing"]),
        ("int8-asymmetric", ["weight_zero_point"], {}, ["weight'", "weight_zero_point is missing"]),
        ("int8-channel", ["weight"], {}, ["weight_scale'", "without"]),
        ("int8-channel", ["weight", "weight_scale"], {}, ["weight'", "missing"]),
        ("int8-channel", [], {"weight": WEIGHT.float()}, ["weight_scale'", "plain numbers"]),
        ("int8-channel", [], {"weight_scale": torch.ones(49, 1)}, ["weight_scale'", "(49, 1)", "(50, 1)"]),
        ("int8-group", [], {"weight_scale": torch.ones(50, 1)}, ["weight_scale'", "(50, 1)", "(50, 16)"]),
        ("fp8-block", [], {"weight_scale": torch.ones(1, 2)}, ["weight_scale'", "(1, 2)", "(2, 2)"]),
        ("fp8-tensor", [], {"weight_scale": torch.ones(2)}, ["weight_scale'", "(2,)", "(1, 1)"]),
        ("int8-channel", [], {"weight_scale": NAN}, ["weight_scale'", "not finite"]),
        ("fp8-channel", [], {"weight_scale": NAN / 0}, ["weight_scale'", "not finite"]),
        ("int8-channel", [], {"weight_scale": NAN.char()}, ["weight_scale'", "I8"]),
        ("int8-channel", [], {"weight": WEIGHT.T.contiguous()}, ["weight'", "(32, 50)", "(50, 32)"]),
        ("int8-channel", [], {"weight": WEIGHT.to(torch.float8_e4m3fn)}, ["weight'", "F8_E4M3", "I8"]),
        ("int8-channel", [], {"weight": WEIGHT.to(torch.float8_e5m2)}, ["weight'", "F8_E5M2", "I8"]),
        ("int8-channel", [], {"weight_g_idx": torch.ones(32)}, ["weight_g_idx'", UP]),
        ("int8-channel", [], {"weight_packed": torch.ones(50, 8).int()}, ["weight_packed'", "I32", "I8"]),
        ("packed-channel", [], {"weight_packed": torch.ones(50, 9).int()}, ["weight_packed'", "(50, 9)"]),
        ("packed-channel", [], {"weight_shape": torch.tensor([50, 31])}, ["weight_shape'", "(50, 31)"]),
        ("packed-channel", [], {"weight_shape": torch.tensor(50)}, ["weight_shape'", "(50,)"]),
        ("int8-asymmetric", [], {"weight_zero_point": torch.ones(3).char()}, ["weight_zero_point'", "(3,)"]),
        ("int8-asymmetric", [], {"weight_zero_point": torch.ones(50).bool()}, ["weight_zero_point'", "BOOL"]),
        (
            "packed-asymmetric",
            [],
            {"weight_zero_point": torch.ones(50, 1).int()},
            ["weight_zero_point'", "(13, 1)"],
        ),
        ("int8-channel", [], {"bias_scale": torch.ones(50)}, ["bias_scale'"]),
        ("int8-channel", [], {"bias": torch.ones(50)}, ["bias'"]),
    ],
)
def test_parts_that_do_not_fit(source, tmp_path, name, drop, parts, words):
    form, weights, quantize = COMPRESSED[name]
    path = write(source, tmp_path / "model", compressed(form, group(**weights)), quantize)
    change(path, drop, **parts)
    fails(path, UP, *words)


def test_errors_name_the_file(source, tmp_path):
    path = write(source, tmp_path / "model", FP8, functools.partial(float8, scale_name="weight_scale_inv"))
    fails(path, "model.safetensors", "weight_scale_inv", "(32, 1)", "(2, 2)")
    split(path, lambda name: name.endswith("_inv"))
    fails(path, "model-00002-of-00002.safetensors", "weight_scale_inv", "(32, 1)", "(2, 2)")


def test_weights_that_the_configuration_leaves_out(source, tmp_path):
    for index, config in enumerate(
        (
            compressed("int-quantized", group(), ignore=["lm_head", r"re:.*layers\.1\."]),
            compressed("int-quantized", group(targets=("Embedding",))),
            compressed("int-quantized"),
        )
    ):
        path = write(source, tmp_path / str(index), config, int8)
        fails(path, "_proj.weight", "I8", "leaves it out")


def test_a_norm_is_not_quantized(source, tmp_path):
    path = write(
        source, tmp_path / "model", FP8, lambda weight: {"weight": weight.to(torch.float8_e4m3fn)}, ".*norm"
    )
    fails(path, "norm.weight", "only matrices")


@pytest.mark.parametrize(
    ("method", "words"),
    [
        *(({"quant_method": name}, [name]) for name in (
            "aqlm", "awq", "bitnet", "bitsandbytes", "eetq", "fbgemm_fp8", "fp_quant", "gptq", "higgs", "hqq",
            "modelopt", "mxfp4", "nvfp4", "quanto", "quark", "spqr", "torchao", "vptq",
        )),
        ({}, ["quant_method=None"]),
        ({"load_in_8bit": True}, ["bitsandbytes"]),
        ({"quant_method": "awq"}, ["LMDeployPipeline"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("key", ["quantization_config", "compression_config"])
def test_methods_that_are_refused(source, key, method, words):
    config = transformers.AutoConfig.from_pretrained(source).to_dict()
    with pytest.raises(ModelLoadError) as caught:
        ModelConfig.from_dict(config | {key: method})
    for word in (key, "compressed-tensors", "fp8", "bfloat16", *words):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (compressed("pack-quantized", group(num_bits=4)), ["num_bits=4", "bfloat16"]),
        (compressed("pack-quantized", group(type="float")), ["type='float'", "'int'"]),
        (
            compressed("nvfp4-pack-quantized", group(num_bits=4, type="float")),
            ["nvfp4-pack-quantized", "bfloat16"],
        ),
        (
            compressed("mixed-precision", group("mxfp4-pack-quantized")),
            ["group_0: format='mxfp4-pack-quantized'"],
        ),
        (compressed("dense", group()), ["format='dense'"]),
        (compressed("marlin-24", group()), ["marlin-24"]),
        (compressed("int-quantized", group(strategy="token")), ["strategy='token'", "channel"]),
        (compressed("int-quantized", group(strategy="group")), ["group_size"]),
        (compressed("int-quantized", group(strategy="block")), ["block_structure"]),
        (compressed("int-quantized", group(dynamic=True)), ["dynamic=True"]),
        (compressed("int-quantized", group(actorder="group")), ["actorder='group'"]),
        (compressed("int-quantized", group(symmetric="no")), ["symmetric='no'"]),
        (compressed("int-quantized", group(targets=("re:(",))), ["targets"]),
        (compressed("int-quantized", group(), ignore=["re:*"]), ["ignore"]),
        (compressed("int-quantized", group(), ignore="lm_head"), ["ignore"]),
        (compressed("int-quantized", group(), config_groups={"W8A8": ["Linear"]}), ["W8A8", "JSON object"]),
        (
            compressed("int-quantized", group(), sparsity_config={"format": "sparse-24-bitmask"}),
            ["sparsity_config"],
        ),
        (
            compressed("int-quantized", group(), transform_config={"config_groups": {"R1": {}}}),
            ["transform_config"],
        ),
        (FP8 | {"weight_block_size": [128]}, ["weight_block_size=[128]"]),
        (FP8 | {"weight_block_size": [0, 128]}, ["weight_block_size"]),
        (FP8 | {"weight_block_size": 128}, ["weight_block_size"]),
        (FP8 | {"expert_dtype": "fp4"}, ["expert_dtype='fp4'"]),
        (FP8 | {"fmt": "e5m2"}, ["fmt='e5m2'"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_schemes_that_are_refused(source, config, words):
    data = transformers.AutoConfig.from_pretrained(source).to_dict()
    with pytest.raises(ModelLoadError) as caught:
        ModelConfig.from_dict(data | {"quantization_config": config})
    for word in ("quantization_config", *words):
        assert word in str(caught.value)


JUNK = (
    None,
    math.nan,
    -1,
    0,
    1.5,
    10**400,
    "",
    "x",
    "re:(",
    "block",
    True,
    [],
    [None],
    ["a"],
    {},
    {"a": 1},
    [[1]],
)


def paths_of(value, path=()):
    """Yield the paths of all values in a JSON value."""
    for key in value if isinstance(value, dict) else range(len(value)):
        yield (*path, key)
        if isinstance(value[key], (dict, list)):
            yield from paths_of(value[key], (*path, key))


@pytest.mark.parametrize("config", [compressed("int-quantized", group(**GROUPS)), FP8], ids=["int8", "fp8"])
def test_any_value_is_read_or_refused(source, config):
    data = transformers.AutoConfig.from_pretrained(source).to_dict()
    for path in paths_of(config):
        for junk in JUNK:
            changed = copy.deepcopy(config)
            functools.reduce(lambda value, key: value[key], path[:-1], changed)[path[-1]] = junk
            try:
                found = ModelConfig.from_dict(data | {"quantization_config": changed})
            except ModelLoadError:
                continue
            assert found.quantization is not None
            found.quantization.scheme("model.layers.0.mlp.up_proj")


def test_what_only_concerns_the_cache_and_activations_is_allowed(source, tmp_path):
    """A checkpoint whose cache alone is quantized has plain weights."""
    attention = {"targets": ["LlamaAttention"], "weights": None, "input_activations": INPUTS}
    config = compressed("dense", attention, kv_cache_scheme=INPUTS | {"type": "float", "dynamic": False})
    path = write(source, tmp_path / "model", config, int8, modules="none")
    weights = load_file(path / "model.safetensors")
    for name in ("k_scale", "v_scale"):
        weights[f"model.layers.0.self_attn.{name}"] = torch.ones(1)
    save_file(weights, path / "model.safetensors")
    assert np.array_equal(logits(path, PROMPT), logits(source, PROMPT))
