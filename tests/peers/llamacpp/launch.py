"""llama.cpp's own server with the embedded model.

    launch.py [--port 8080] [--model FOLDER]

The model is written to a GGUF file first. Run it with the Python of the environment that
`scripts/peer llamacpp` makes.
"""

import argparse
import json
import signal
import tempfile
from pathlib import Path

import gguf
import xllamacpp
from safetensors.numpy import load_file

MODELS = Path(__file__).resolve().parents[3] / "lagent_llms" / "models"
#: The split of llama.cpp before byte-pair merges that is nearest to the model's own.
PRE_TOKENIZER = "superbpe"


def write_gguf(folder, path):
    """Write the Llama model in `folder` to the GGUF file `path`."""
    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("embedded")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    write_tokenizer(folder, writer)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    for name, tensor in load_file(folder / "model.safetensors").items():
        if rotated := next((count for part, count in heads.items() if part in name), None):
            rows, columns = tensor.shape  # llama.cpp rotates neighbours, transformers the two halves
            halves = tensor.reshape(rotated, 2, rows // rotated // 2, columns)
            tensor = halves.swapaxes(1, 2).reshape(rows, columns)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), tensor.astype("float32"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_tokenizer(folder, writer):
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    ids = tokenizer["model"]["vocab"] | {item["content"]: item["id"] for item in tokenizer["added_tokens"]}
    # The server shows "user-defined" tokens in texts, which hold tool calls, but not "control" tokens.
    shown = {name for name in ids if name.startswith(("<|action", "<|plugin", "<|interp"))}
    special = {item["content"] for item in tokenizer["added_tokens"]} - shown
    tokens = sorted(ids, key=ids.__getitem__)
    kinds = gguf.TokenType
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(PRE_TOKENIZER)
    writer.add_token_list(tokens)
    writer.add_token_types(
        [
            kinds.CONTROL if token in special else kinds.USER_DEFINED if token in shown else kinds.NORMAL
            for token in tokens
        ]
    )
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(ids[settings["bos_token"]])
    writer.add_eos_token_id(ids[settings["eos_token"]])
    writer.add_eot_token_id(ids["<|im_end|>"])
    writer.add_add_bos_token(True)
    writer.add_chat_template(settings["chat_template"])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--model", type=Path, default=MODELS / "embedded")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        params = xllamacpp.CommonParams()
        params.model.path = str(Path(folder) / "embedded.gguf")
        write_gguf(options.model, params.model.path)
        params.model_alias = {"embedded"}
        params.port = options.port
        params.n_parallel, params.n_ctx, params.n_threads_http = 4, 4 * 2048, 64
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
        params.endpoint_metrics = True
        server = xllamacpp.Server(params)
        print(server.listening_address, flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    main()
