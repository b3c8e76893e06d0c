"""Supported contents of a checkpoint directory, and the errors for other directories."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
from safetensors.numpy import load_file, save_file

from lagent_llms.errors import InvalidArgument, ModelLoadError
from lagent_llms.jax_engine import Engine
from lagent_llms.jax_engine.config import ModelConfig
from lagent_llms.jax_engine.tokenizer import Tokenizer

from .conftest import prompt_of, run


@pytest.fixture
def copy(checkpoint, tmp_path):
    """A copy of the Llama checkpoint that a test may modify."""
    return shutil.copytree(checkpoint("llama"), tmp_path / "copy")


def fails(path, *words, **options):
    with pytest.raises(ModelLoadError) as caught:
        Engine.load(path, cache_dir=False, **options)
    for word in words:
        assert word in str(caught.value)


def edit(path, **changes):
    data = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in data.items() if value is not None}))


def test_no_directory(tmp_path):
    fails(tmp_path / "nowhere", "nowhere")


def test_no_config(copy):
    (copy / "config.json").unlink()
    fails(copy, "config.json")


def test_broken_config(copy):
    (copy / "config.json").write_text("{")
    fails(copy, "config.json")


def test_no_weights(copy):
    (copy / "model.safetensors").unlink()
    fails(copy, "model.safetensors")


def test_only_a_pickle(copy):
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    fails(copy, "pytorch_model.bin", "safetensors")


@pytest.mark.parametrize("keep", [4, 100, 0.5, 0.999])
def test_truncated_weights(copy, keep):
    file = copy / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[: keep if isinstance(keep, int) else int(len(data) * keep)])
    fails(copy, "model.safetensors")


def test_missing_tensor(copy):
    file, name = copy / "model.safetensors", "model.layers.1.mlp.up_proj.weight"
    weights = load_file(file)
    del weights[name]
    save_file(weights, file)
    fails(copy, "model.safetensors", name)


def test_misshaped_tensor(copy):
    edit(copy / "config.json", intermediate_size=64)
    fails(copy, "mlp.", "(48, 32)", "(64, 32)")


def test_unknown_architecture(copy):
    edit(copy / "config.json", architectures=["GPT2LMHeadModel"])
    fails(copy, "GPT2LMHeadModel", "LlamaForCausalLM", "InternLM2ForCausalLM")


def test_missing_key(copy):
    edit(copy / "config.json", hidden_size=None)
    fails(copy, "hidden_size")


def test_unknown_rope(copy):
    edit(copy / "config.json", rope_parameters={"rope_type": "axial", "rope_theta": 1e4, "factor": 2.0})
    fails(copy, "axial", "llama3")


def test_no_tokenizer(copy):
    (copy / "tokenizer.json").unlink()
    fails(copy, "tokenizer.json", "save_pretrained")


def shard(path):
    """Split the weights of a checkpoint into two files with an index."""
    weights = load_file(path / "model.safetensors")
    (path / "model.safetensors").unlink()
    names = sorted(weights)
    table = {}
    for number, part in enumerate((names[: len(names) // 2], names[len(names) // 2 :]), 1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: weights[name] for name in part}, path / file)
        table |= dict.fromkeys(part, file)
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": table}))


def test_shards(copy, engine):
    shard(copy)
    with Engine.load(copy, max_slots=4) as sharded:
        ids = run(sharded, prompt_of(9), max_new_tokens=10, ignore_eos=True).ids
    assert ids == run(engine, prompt_of(9), max_new_tokens=10, ignore_eos=True).ids


def test_missing_shard(copy):
    shard(copy)
    (copy / "model-00002-of-00002.safetensors").unlink()
    fails(copy, "model-00002-of-00002.safetensors")


def test_old_and_new_config_keys_mean_the_same(checkpoint):
    new = json.loads((checkpoint("llama3_rope") / "config.json").read_text())
    rope = dict(new["rope_parameters"])
    old = {key: value for key, value in new.items() if key not in ("rope_parameters", "dtype")}
    old |= {"rope_theta": rope.pop("rope_theta"), "rope_scaling": rope, "torch_dtype": "float32"}
    assert ModelConfig.from_dict(old) == ModelConfig.from_dict(new)
    unscaled = new | {"rope_parameters": {"rope_theta": new["rope_parameters"]["rope_theta"]}}
    assert ModelConfig.from_dict(new).ropes != ModelConfig.from_dict(unscaled).ropes


def test_tokenizer(checkpoint, copy):
    config = ModelConfig.from_directory(copy)
    tokenizer = Tokenizer(copy, config)
    assert (tokenizer.bos_id, tokenizer.bos_token, tokenizer.eos_ids) == (1, "<s>", {2})
    text = "你好 <|im_start|>café"
    ids = tokenizer.encode(text)
    assert tokenizer.token_id("<|im_start|>") in ids
    assert tokenizer.encode(text, add_bos=True) == [1, *ids]
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(ids, skip_special_tokens=True) == "你好 café"
    stream = tokenizer.stream(skip_special_tokens=True)
    assert stream.feed(ids) + stream.flush() == "你好 café"
    edit(copy / "tokenizer_config.json", add_bos_token=False)
    assert Tokenizer(copy, config).encode("a", add_bos=True) == tokenizer.encode("a")
    edit(copy / "tokenizer_config.json", eos_token={"content": "<|im_end|>"}, bos_token=None)
    (copy / "generation_config.json").unlink()
    edit(copy / "config.json", eos_token_id=None, bos_token_id=None)
    bare = Tokenizer(copy, ModelConfig.from_directory(copy))
    assert (bare.bos_id, bare.eos_ids) == (None, {tokenizer.token_id("<|im_end|>")})


def test_progress_is_reported(checkpoint):
    steps: list[str] = []
    with Engine.load(checkpoint("llama"), progress=steps.append) as engine:
        run(engine, prompt_of(40), max_new_tokens=3, ignore_eos=True)
    assert steps == [
        "reading the tokenizer",
        "reading weights",
        "compiling prefill 48",
        "compiling decode 1",
    ]


def run_in_subprocess(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=600,
        env={"PATH": "", **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_compile_cache_directory(checkpoint, tmp_path):
    """The default is in the user's cache directory, even after a compilation; JAX's own setting wins."""
    code = f"""
import jax
jax.jit(lambda x: x + 1)(1)
from lagent_llms.jax_engine import Engine
with Engine.load({str(checkpoint("llama"))!r}, max_slots=1) as engine:
    import threading
    from lagent_llms.jax_engine import SamplingParams
    done = threading.Event()
    engine.submit([1, 5], SamplingParams(max_new_tokens=1), on_event=lambda event: done.set())
    assert done.wait(300)
"""
    run_in_subprocess(code, XDG_CACHE_HOME=str(tmp_path / "xdg"))
    assert list((tmp_path / "xdg" / "lagent_llms" / "xla").iterdir())
    own = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "own"), "XDG_CACHE_HOME": str(tmp_path / "other")}
    run_in_subprocess(code, **own)
    assert not (tmp_path / "other").exists()
    run_in_subprocess(code.replace("max_slots=1", "cache_dir=False"), XDG_CACHE_HOME=str(tmp_path / "third"))
    assert not (tmp_path / "third").exists()


MESHES = [(1, -1, 1), (1, 1, -1), (1, 2, 2), (2, 2, 2)]


@pytest.mark.parametrize(
    ("kind", "meshes"),
    [
        ("qwen3", MESHES),
        *((kind, MESHES[-1:]) for kind in ("gemma3", "phi3", "olmo2", "qwen2_moe")),
    ],
)
def test_meshes_give_the_answers_of_one_device(checkpoint, kind, meshes):
    """Run on 8 virtual devices; weights and cache are sharded."""
    path = str(checkpoint(kind))
    code = f"""
import threading
import jax
from lagent_llms.jax_engine import Engine, SamplingParams
assert len(jax.devices()) == 8
greedy = SamplingParams(max_new_tokens=11, temperature=0, ignore_eos=True)

def answers(shape):
    with Engine.load({path!r}, max_slots=2, mesh_axes_shape=shape, cache_dir=False) as engine:
        ids, done = [[], [], []], [threading.Event() for _ in range(3)]
        for index in range(3):
            def on_event(event, index=index):
                ids[index].extend(event.token_ids)
                assert event.error is None, event.error
                if event.finish_reason:
                    done[index].set()
            prompt = [1] + [(index + 3) * place % 300 + 5 for place in range(9 + 12 * index)]
            engine.submit(prompt, greedy, on_event=on_event)
        for event in done:
            assert event.wait(300)
        runner = engine._worker._runner
        weight, keys = runner._weights.layers[0].gate_up, runner._cache[0][0]
        devices = min(len(array.sharding.device_set) for array in (weight, keys))
        return ids, devices, weight.addressable_shards[0].data.size

one, devices, size = answers((1, 1, 1))
assert devices == 1
for shape in {meshes!r}:
    ids, devices, part = answers(shape)
    assert ids == one, shape
    assert devices == (4 if shape == (1, 2, 2) else 8), shape
    assert part < size, shape
print("equal")
"""
    flags = "--xla_force_host_platform_device_count=8"
    assert run_in_subprocess(code, XLA_FLAGS=flags, JAX_PLATFORMS="cpu", HOME="/nonexistent") == "equal\n"


@pytest.mark.parametrize(
    ("names", "shape"),
    [(("dp", "mp"), (1, 1, 1)), (("dp", "dp"), (1, 1)), (("dp", "mp"), (-1, -1)), (("dp",), (99,))],
)
def test_wrong_meshes(checkpoint, names, shape):
    with pytest.raises(InvalidArgument, match="mesh_axes_shape"):
        Engine.load(checkpoint("llama"), cache_dir=False, mesh_axes_names=names, mesh_axes_shape=shape)
