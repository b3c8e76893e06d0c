"""An independent peer that speaks LoRAX's protocol, on the CPU: transformers and PEFT under FastAPI.

    launch.py [--port 8080] [--model FOLDER] [--adapters FOLDER] [--max-stop-sequences 4] …

It is no LoRAX: it was written from the same reading of the router's source as the client it tests. Words in
the prompt trigger faults: [[error N]] fails after N tokens, [[cut N]] cuts the connection, [[hang N]] sends
nothing more, [[slow S]] takes S seconds for each token, [[end]] has no final event.
Run it with the Python of the environment that `scripts/peer lorax` makes.
"""

import argparse
import gc
import os
import sys
from pathlib import Path

MODELS = Path(__file__).resolve().parents[3] / "lagent_llms" / "models"


def main():
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    sys.path.insert(0, str(Path(__file__).parent))
    from validation import Limits

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--model", type=Path, default=MODELS / "embedded")
    parser.add_argument("--model-id", default="embedded")
    parser.add_argument("--adapters", type=Path, default=MODELS / "adapters")
    parser.add_argument("--private", nargs="*", default=[], help="adapters that take --private-token")
    parser.add_argument("--private-token", default="hf_secret")
    parser.add_argument("--keep-alive", type=float, default=15.0, help="seconds of silence before a comment")
    for name, field in Limits.model_fields.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=field.default)
    options = parser.parse_args()

    gc.disable()  # collections take a fifth of the time of the imports, and find nothing
    import torch
    import uvicorn
    from adapters import Adapters
    from generation import Engine
    from jobs import Server
    from openai_routes import add_openai_routes
    from routes import make_app
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
    adapters = Adapters(model, options.adapters, private=options.private, token=options.private_token)
    engine = Engine(adapters, AutoTokenizer.from_pretrained(options.model))
    limits = Limits(**{name: getattr(options, name) for name in Limits.model_fields})
    server = Server(engine, limits, options.model_id, options.keep_alive)
    app = make_app(server)
    add_openai_routes(app, server)
    gc.freeze()
    gc.enable()
    uvicorn.run(app, host=options.host, port=options.port, log_level="warning", timeout_graceful_shutdown=1)


if __name__ == "__main__":
    main()
