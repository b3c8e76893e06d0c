"""lmdeploy's command line with the CPU engine under it.

    launch.py                        an api_server of the embedded model, its LoRA adapters as model names
    launch.py --server-port 8080 …   the same, with any flag of `lmdeploy serve api_server`
    launch.py proxy …                `lmdeploy serve proxy`
    launch.py serve api_server PATH …  and every other command of `lmdeploy`

Run it with the Python of the environment that `scripts/peer lmdeploy` makes.
"""

import gc
import os
import sys
from pathlib import Path

MODELS = Path(__file__).resolve().parents[3] / "lagent_llms" / "models"
NAME = "embedded"


def embedded(flags):
    """Return the command line of an api_server of the embedded model."""
    adapters = [f"{path.name}={path}" for path in sorted((MODELS / "adapters").iterdir()) if path.is_dir()]
    default = ["--model-name", NAME, "--backend", "pytorch", "--logprobs-mode", "raw_logprobs"]
    return [
        "serve", "api_server", str(MODELS / "embedded"), *default, *flags, "--adapters", *adapters,
    ]  # fmt: skip


def forget_nodes():
    """Delete the cached servers: lmdeploy reads them in spite of --disable-cache-status."""
    import importlib.util

    home = Path(importlib.util.find_spec("lmdeploy").origin).parent
    (home / "serve" / "proxy" / "proxy_config.json").unlink(missing_ok=True)


def main():
    given = sys.argv[1:]
    if not given or given[0].startswith("-"):
        given = embedded(given)
    elif given[0] == "proxy":
        given = ["serve", *given]
    if "--disable-cache-status" in given:
        forget_nodes()
    sys.argv[1:] = given
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is downloaded: a wrong path fails at once
    gc.disable()  # collections take a sixth of the time of the imports, and find nothing
    import cpu_engine
    from lmdeploy.cli.entrypoint import run

    if "api_server" in given:  # what it imports later
        import lmdeploy.serve.openai.api_server  # noqa: F401
        import transformers.models.llama.modeling_llama  # noqa: F401
    cpu_engine.install()
    gc.freeze()
    gc.enable()
    run()


if __name__ == "__main__":
    main()
