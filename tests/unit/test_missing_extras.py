"""The error without an extra names the command that installs it."""

import subprocess
import sys

import pytest

WITHOUT = "import sys; sys.modules[{package!r}] = None\n"


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("package", ["jax", "safetensors", "tokenizers"])
def test_the_jax_extra(package):
    done = python(
        WITHOUT.format(package=package) + "from lagent_llms import LLMError, MissingDependency, create_llm\n"
        "try:\n    create_llm()\n"
        "except MissingDependency as error:\n    print(isinstance(error, LLMError), error.extra, error)\n"
    )
    assert done.stderr == ""
    assert "run: pip install 'lagent_llms[jax]'" in done.stdout
    assert done.stdout.startswith("True jax")


@pytest.mark.parametrize("package", ["tritonclient", "grpc"])
def test_the_triton_extra(package):
    done = python(
        WITHOUT.format(package=package) + "from lagent_llms import MissingDependency, TritonClient\n"
        "print(TritonClient('http://localhost:8000', 'over HTTP the core is enough'))\n"
        "try:\n    TritonClient('localhost:8001', 'model')\n"
        "except MissingDependency as error:\n    print(error.extra, error)\n"
    )
    assert done.stderr == ""
    assert "triton tritonclient[grpc] is not installed; run: pip install 'lagent_llms[triton]'" in done.stdout


@pytest.mark.parametrize("package", ["typer", "rich"])
def test_the_cli_extra(package):
    done = python(WITHOUT.format(package=package) + "from lagent_llms.cli import main; main()")
    assert done.returncode == 1
    assert done.stderr == f"error: {package} is not installed; run: pip install 'lagent_llms[cli]'\n"


@pytest.mark.parametrize(
    ("package", "statement", "extra"),
    [
        ("fastapi", "import lagent_llms.serving.app", "server"),
        ("fastapi", "from lagent_llms.cli.serve import serve; serve()", "server"),
        ("jax", "from lagent_llms import JAXServer", "jax"),
        ("transformers", "from lagent_llms import AsyncHFTransformers", "transformers"),
        ("vllm", "from lagent_llms import AsyncVLLMPipeline", "vllm"),
        ("jax", "import lagent_llms.serving.jax_server.server", "jax"),
    ],
)
def test_the_other_extras(package, statement, extra):
    done = python(
        WITHOUT.format(package=package) + "from lagent_llms import MissingDependency\n"
        f"try:\n    {statement}\n"
        "except MissingDependency as error:\n    print(error.extra, error)\n"
    )
    assert done.stderr == ""
    assert done.stdout.startswith(f"{extra} ")
    assert done.stdout.endswith(f" is not installed; run: pip install 'lagent_llms[{extra}]'\n")


@pytest.mark.parametrize("call", ["generate(None)", "run_batch(LLM, ['Hi'], OUTPUT)"])
def test_the_ray_extra(call, tmp_path):
    done = python(
        WITHOUT.format(package="ray") + "from lagent_llms import MissingDependency\n"
        "from lagent_llms.ray import generate, run_batch\n"
        "LLM = {'type': 'LMDeployClient', 'url': 'http://127.0.0.1:1', 'model_name': 'm'}\n"
        f"OUTPUT = {str(tmp_path / 'out')!r}\n"
        f"try:\n    {call}\nexcept MissingDependency as error:\n    print(error.extra, error)\n"
    )
    assert done.stderr == ""
    assert done.stdout == "ray ray[data] is not installed; run: pip install 'lagent_llms[ray]'\n"


def test_importing_works_without_any():
    names = ("jax", "numpy", "safetensors", "tokenizers", "jinja2", "typer", "rich", "opentelemetry")
    blocked = "".join(WITHOUT.format(package=name) for name in names)
    done = python(blocked + "import lagent_llms; print(lagent_llms.create_llm, lagent_llms.BaseLLM)")
    assert (done.returncode, done.stderr) == (0, "")
