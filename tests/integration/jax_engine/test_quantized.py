"""Quantized checkpoints are read as transformers dequantizes them, or refused with the word that matters."""

from __future__ import annotations

import functools

import ml_dtypes
import numpy as np
import pytest
import torch
import transformers
from compressed_tensors.compressors import ModelCompressor
from compressed_tensors.quantization import QuantizationConfig, apply_quantization_config
from compressed_tensors.quantization.utils import calculate_qparams
from safetensors.torch import load_file, save_file

from lagent_llms.jax_engine import Engine
from lagent_llms.jax_engine.config import ModelConfig
from lagent_llms.jax_engine.weights import load_weights

from . import checkpoints
from .conftest import logits, prompt_of, run
from .quantized import CHANNEL, FP8, TENSOR, compressed, float8, group, int8, packed, split, write
from .test_lora import train

PROMPT = prompt_of(40)

INPUTS = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True}
GROUPS = {"strategy": "group", "group_size": 2}
ASYMMETRIC = {"symmetric": False}
FLOAT = {"type": "float"}
BLOCKS = {"strategy": "block", "block_structure": [32, 16]}  # the last row of blocks is not whole

#: Name -> format, weights of the group, and how they are written
COMPRESSED = {
    "int8-channel": ("int-quantized", {}, int8),
    "int8-tensor": ("int-quantized", {"strategy": "tensor"}, functools.partial(int8, block=TENSOR)),
    "int8-asymmetric": ("int-quantized", ASYMMETRIC, functools.partial(int8, symmetric=False)),
    "int8-tensor-asymmetric": (
        "int-quantized",
        {"strategy": "tensor", **ASYMMETRIC},
        functools.partial(int8, block=TENSOR, symmetric=False),
    ),
    "int8-group": ("naive-quantized", GROUPS, functools.partial(int8, block=(1, 2))),
    "fp8-channel": ("float-quantized", FLOAT, float8),
    "fp8-tensor": (
        "float-quantized",
        {"strategy": "tensor", **FLOAT},
        functools.partial(float8, block=TENSOR),
    ),
    "fp8-block": ("float-quantized", BLOCKS | FLOAT, functools.partial(float8, block=(32, 16))),
    "fp8-naive": ("naive-quantized", FLOAT, float8),
    "packed-channel": ("pack-quantized", {}, packed),
    "packed-group": ("pack-quantized", GROUPS, functools.partial(packed, block=(1, 2))),
    "packed-asymmetric": ("pack-quantized", ASYMMETRIC, functools.partial(packed, symmetric=False)),
    "packed-group-asymmetric": (
        "pack-quantized",
        GROUPS | ASYMMETRIC,
        functools.partial(packed, block=(1, 2), symmetric=False),
    ),
}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A Llama checkpoint whose sizes are no multiples of 4 and 16."""
    return checkpoints.make("llama", tmp_path_factory.mktemp("models") / "source", intermediate_size=50)


def reference(path, **options):
    """Return transformers' model; quantized weights are dequantized, activations are not quantized."""
    return transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, **options).eval()


def dequantized(path):
    return reference(path, quantization_config=transformers.CompressedTensorsConfig(dequantize=True))


def dequantized_fp8(path):
    return reference(path, quantization_config=transformers.FineGrainedFP8Config(dequantize=True))


def logits_of(model):
    with torch.no_grad():
        return model(torch.tensor([PROMPT]), use_cache=False).logits[0].numpy()


def agrees(path, model, source=None):
    """Compare the logits, and that they are those of quantized weights."""
    found, expected = logits(path, PROMPT), logits_of(model)
    assert np.abs(found - expected).max() < 1e-4
    assert found.argmax(-1).tolist() == expected.argmax(-1).tolist()
    if source is not None:
        assert np.abs(found - logits(source, PROMPT)).max() > 1e-3


@pytest.mark.parametrize("name", COMPRESSED)
@pytest.mark.filterwarnings("ignore")
def test_compressed_tensors(source, tmp_path, name):
    form, weights, quantize = COMPRESSED[name]
    scheme = group(**weights) | {"input_activations": INPUTS}
    path = write(source, tmp_path / "model", compressed(form, scheme), quantize)
    agrees(path, dequantized(path), source)


def fp8(source, path, config, modules=r".*_proj", **options):
    return write(source, path, FP8 | config, functools.partial(float8, **options), modules)


@pytest.mark.filterwarnings("ignore")
def test_fp8_blocks(checkpoint, tmp_path):
    """As DeepSeek and Qwen write them: the head, the norms and the embedding stay as they are."""
    path = fp8(checkpoint("qwen3"), tmp_path / "model", {}, block=(16, 16), scale_name="weight_scale_inv")
    agrees(path, dequantized_fp8(path), checkpoint("qwen3"))


def test_fp8_blocks_that_are_not_whole(source, tmp_path):
    """transformers does not read these: compare with the product of the stored numbers and their scales."""
    path = fp8(source, tmp_path / "model", {"weight_block_size": [32, 16]}, block=(32, 16))
    plain = load_file(path / "model.safetensors")
    for name in [name for name in plain if name.endswith("weight_scale")]:
        scale = plain.pop(name).repeat_interleave(32, 0).repeat_interleave(16, 1)
        stored = plain[name.removesuffix("_scale")].float()
        plain[name.removesuffix("_scale")] = stored * scale[: stored.shape[0], : stored.shape[1]]
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain/config.json").write_bytes((source / "config.json").read_bytes())
    save_file(plain, tmp_path / "plain/model.safetensors")
    agrees(path, reference(tmp_path / "plain"), source)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("block", [TENSOR, CHANNEL])
def test_fp8_without_blocks(source, tmp_path, block):
    """As Mistral writes them: a scale a tensor, static scales of activations, modules left out by name."""
    config = {"weight_block_size": None, "activation_scheme": "static", "modules_to_not_convert": ["lm_head"]}
    path = fp8(source, tmp_path / "model", config, block=block, scale_name="weight_scale_inv")
    weights = load_file(path / "model.safetensors")
    for name in [name for name in weights if name.endswith("_scale_inv")]:
        weights[name.replace("weight_scale_inv", "activation_scale")] = torch.tensor(0.7)
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    agrees(path, dequantized_fp8(path), source)


@pytest.mark.filterwarnings("ignore")
def test_scales_that_are_powers_of_two(source, tmp_path):
    def quantize(weight):
        parts = float8(weight, (2, 2), scale_name="weight_scale_inv")
        return parts | {"weight_scale_inv": parts["weight_scale_inv"].to(torch.float8_e8m0fnu)}

    config = FP8 | {"weight_block_size": [2, 2], "scale_fmt": "ue8m0", "fmt": "e4m3"}
    path = write(source, tmp_path / "model", config, quantize)
    agrees(path, dequantized_fp8(path), source)


def names_of_autofp8(weight):
    parts = float8(weight, TENSOR)
    return parts | {"weight_scale": parts["weight_scale"].view(()), "input_scale": torch.tensor(2.0)}


def test_equal_ids_from_the_engine(source, tmp_path):
    """Also from a quantized head and embedding, and with the scales of activations and of the cache."""
    everything = r".*_proj|lm_head|.*embed_tokens"
    cases = [
        (compressed("int-quantized", group(targets=("Linear", "Embedding")), ignore=[]), int8),
        ({"quant_method": "fp8", "activation_scheme": "static", "ignored_layers": []}, names_of_autofp8),
    ]
    for index, (config, quantize) in enumerate(cases):
        path = write(source, tmp_path / str(index), config, quantize, everything)
        weights = load_file(path / "model.safetensors")
        weights["model.layers.0.self_attn.k_scale"] = torch.ones(1)
        save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
        weights = {name: weights[name].float() for name in weights if not name.endswith("_scale")} | {
            name.removesuffix("_scale"): weights[name] * weights[name.removesuffix("_scale")].float()
            for name in weights
            if name.endswith("weight_scale")
        }
        model = reference(source)
        model.load_state_dict(weights)
        expected = model.generate(
            torch.tensor([PROMPT]), do_sample=False, max_new_tokens=24, eos_token_id=None
        )
        with Engine.load(path, max_slots=1, cache_dir=False) as engine:
            ids = run(engine, PROMPT, max_new_tokens=24, ignore_eos=True).ids
        assert ids == expected[0, len(PROMPT) :].tolist()


@pytest.mark.filterwarnings("ignore")
def test_bfloat16_weights_are_those_of_transformers(source, tmp_path):
    """A product is rounded once."""

    def quantize(weight):
        parts = int8(weight, symmetric=False)
        return parts | {"weight_scale": parts["weight_scale"].to(torch.bfloat16)}

    path = write(source, tmp_path / "model", compressed("int-quantized", group(**ASYMMETRIC)), quantize)
    config = ModelConfig.from_directory(path)
    found = load_weights(path, config, ml_dtypes.bfloat16, None, lambda name, array: array).layers[1].down
    model = transformers.AutoModelForCausalLM.from_pretrained(
        path, dtype=torch.bfloat16, quantization_config=transformers.CompressedTensorsConfig(dequantize=True)
    )
    expected = model.model.layers[1].mlp.down_proj.weight.detach().float().numpy().T
    assert np.array_equal(found.astype(np.float32), expected)


@pytest.mark.filterwarnings("ignore")
def test_tied_embeddings_and_shards(checkpoint, tmp_path):
    path = write(
        checkpoint("llama_tied"), tmp_path / "model", compressed("float-quantized", group(**FLOAT)), float8
    )
    before = logits(path, PROMPT)
    agrees(path, dequantized(path), checkpoint("llama_tied"))
    split(path, lambda name: name.endswith("_scale"))
    assert np.array_equal(logits(path, PROMPT), before)


def test_internlm2(checkpoint, tmp_path):
    """Names are those of the file; the reference is Llama's with the same scales a row."""
    modules = r".*_proj|.*\.(w1|w2|w3|wo|wqkv)"
    config = compressed("int-quantized", group(targets=(r"re:.*layers\.\d+\..*",)))
    paths = [
        write(checkpoint(kind), tmp_path / kind, config, int8, modules) for kind in ("llama", "internlm2")
    ]
    assert np.abs(logits(paths[0], PROMPT) - logits(paths[1], PROMPT)).max() < 1e-4


@pytest.mark.filterwarnings("ignore")
def test_an_adapter_is_merged_into_the_dequantized_weights(source, tmp_path):
    path = write(source, tmp_path / "model", compressed("int-quantized", group()), int8)
    plain = reference(source)
    plain.load_state_dict(dequantized(path).state_dict())
    plain.save_pretrained(tmp_path / "plain")
    expected = train(tmp_path / "plain", tmp_path / "adapter")
    assert np.abs(logits(path, PROMPT, tmp_path / "adapter") - expected).max() < 1e-3
    assert np.abs(logits(path, PROMPT) - expected).max() > 0.1


@pytest.mark.filterwarnings("ignore")
def test_groups_by_name_expression_and_class(source, tmp_path):
    groups = [
        group("float-quantized", type="float"),
        group("pack-quantized", (r"re:.*\.mlp\..*",), **GROUPS),
        group("int-quantized", ("model.layers.1.mlp.up_proj",), strategy="tensor", **ASYMMETRIC),
    ]
    config = compressed("mixed-precision", *groups, ignore=["lm_head", r"re:.*\.0\.self_attn.*"])
    packed_by_2 = functools.partial(packed, block=(1, 2))
    path = write(source, tmp_path / "0", config, float8, r".*layers\.[12]\.self_attn\..*_proj")
    path = write(path, tmp_path / "1", config, packed_by_2, r".*mlp\.(gate|down)_proj|.*\.[02]\.mlp\.up_proj")
    path = write(
        path, tmp_path / "2", config, COMPRESSED["int8-tensor-asymmetric"][2], r".*\.1\.mlp\.up_proj"
    )
    agrees(path, reference(path), source)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("scheme", ["W8A8", "FP8", "FP8_DYNAMIC", "packed", "blocks"])
def test_checkpoints_that_compressed_tensors_writes(source, tmp_path, scheme):
    own = {
        "packed": group(**GROUPS | ASYMMETRIC),
        "blocks": group(type="float", strategy="block", block_structure=[16, 16]),
    }
    groups = {"group_0": own[scheme]} if scheme in own else {scheme: ["Linear"]}
    model = reference(source)
    apply_quantization_config(model, QuantizationConfig(config_groups=groups, ignore=["lm_head"]))
    for module in model.modules():
        if (scheme_of := getattr(module, "quantization_scheme", None)) is None:
            continue
        if hasattr(module, "input_scale"):
            module.input_scale.data.fill_(1.0)
        args, (rows, columns) = scheme_of.weights, module.weight.shape
        grid = (*module.weight_scale.shape, 1)[:2]
        height, width = -(-rows // grid[0]), -(-columns // grid[1])
        if args.block_structure:
            height, width = args.block_structure
        padded = torch.nn.functional.pad(
            module.weight.data, (0, grid[1] * width - columns, 0, grid[0] * height - rows)
        )
        blocks = padded.view(grid[0], height, grid[1], width)
        scale, zero_point = calculate_qparams(blocks.amin((1, 3)), blocks.amax((1, 3)), args)
        module.weight_scale.data.copy_(scale.view_as(module.weight_scale))
        module.weight_zero_point.data.copy_(zero_point.view_as(module.weight_scale))
    compressor = ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    model.save_pretrained(tmp_path / "model")
    compressor.update_config(str(tmp_path / "model"))
    agrees(tmp_path / "model", dequantized(tmp_path / "model"), source)
