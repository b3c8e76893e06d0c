"""The source tree: public and former import paths, and test files named after their modules."""

import subprocess
import sys
from pathlib import Path

import pytest

import lagent_llms

PACKAGE = Path(lagent_llms.__file__).parent
ROOT = PACKAGE.parent
CORE = {"aiohttp", "httptools", "msgspec", "requests", "urllib3", "yaml"}
EXTRAS = {
    "fastapi",
    "gradio",
    "grpc",
    "jax",
    "jinja2",
    "lmdeploy",
    "numpy",
    "tokenizers",
    "torch",
    "tritonclient",
}


def python(code, *flags):
    """Run `code` in a subprocess, with warnings as errors unless `flags` change that; return its output."""
    command = [sys.executable, "-W", "error", *flags, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def loaded_by(statement, *flags):
    """Return the top-level packages that `statement` loads."""
    code = f"import sys\n{statement}\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    return set(python(code, *flags).split())


# public import paths


@pytest.mark.parametrize(
    "statement",
    [
        "import lagent_llms; lagent_llms.BaseLLM; lagent_llms.create_llm",
        "from lagent_llms import INTERNLM2_META, APITemplateParser",
        "import lagent_llms.meta_template",
        "from lagent_llms.meta_template import INTERNLM2_META as META; META[0]['role']",
        "from lagent_llms.meta_template import LMTemplateParser, load_template, check_template",
        "from lagent_llms.meta_template import *; LMTemplateParser; available_templates",
        "from lagent_llms.testing import ScriptedLLM, AsyncScriptedLLM",
    ],
)
def test_public_paths_load_no_dependency(statement):
    assert loaded_by(statement) & (CORE | EXTRAS) == set()


@pytest.mark.parametrize(
    "statement",
    [
        "from lagent_llms import JAXClient, LMDeployClient, LMDeployServer, LoRAX, TritonClient",
        "from lagent_llms.lorax import Client, AsyncClient",
        "import lagent_llms.lorax.types, lagent_llms.lorax.errors",
        "from lagent_llms.backends.triton import OneModelDialect, register_dialect",
    ],
)
def test_public_paths_of_clients_load_no_extra(statement):
    assert loaded_by(statement) & EXTRAS == set()


def test_the_package_itself_loads_the_standard_library_only():
    loaded = {name for name in loaded_by("import lagent_llms", "-S") if not name.startswith("_")}
    assert loaded - sys.stdlib_module_names == {"lagent_llms"}


def test_serving_has_app_py():
    assert (PACKAGE / "serving" / "app.py").is_file()  # tests/integration/smoke/test_server.py imports it


def test_meta_template_is_templates():
    import lagent_llms.meta_template as former
    from lagent_llms import templates

    assert former.__all__ == templates.__all__
    assert {*former.__all__} <= {*dir(former)}
    for name in former.__all__:
        assert getattr(former, name) is getattr(templates, name)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = former.nothing


def test_former_names_of_the_conformance_suite():
    from lagent_llms.testing.conformance import (
        BackendUnderTest,
        Conformance,
        ConformanceTests,
        Promises,
        Subject,
        promise,
        requirement,
    )

    assert (Promises, Subject, promise) == (ConformanceTests, BackendUnderTest, requirement)
    assert issubclass(Conformance, Promises)


@pytest.mark.parametrize(
    "statement",
    [
        "from lagent_llms.wire.triton import OneModelDialect, register_dialect",
        "import lagent_llms.wire.triton",
        "from lagent_llms.wire import triton",
    ],
)
def test_the_former_path_of_the_dialects_warns_at_the_callers_line(statement):
    code = (
        "import warnings\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        f"    {statement}\n"
        "(warning,) = caught\n"
        "assert warning.filename == '<string>' and warning.lineno == 4, warning\n"
        "import sys, lagent_llms.backends.triton as triton\n"
        "assert sys.modules['lagent_llms.wire.triton'] is triton\n"
        "print(warning.category.__name__, warning.message)"
    )
    output = python(code)
    assert output.startswith(
        "DeprecationWarning lagent_llms.wire.triton has moved to lagent_llms.backends.triton"
    )


# folders


def test_no_folder_is_named_wire_or_transport():
    for folder in (PACKAGE, ROOT / "tests" / "unit", ROOT / "tests" / "integration", ROOT / "tests"):
        for name in ("wire", "transport"):
            assert not [*(folder / name).rglob("*.py")], folder / name


def test_the_families_are_in_the_root_folder():
    assert len([*(ROOT / "meta_templates").glob("*.yaml")]) == 68
    assert not (PACKAGE / "meta_templates").exists()


#: Suites of tests/unit that test several modules -> these modules, "." for the whole package.
SPANNING = {
    "backends/triton/test_dialects.py": ("backends/triton/dialects",),
    "backends/triton/test_former_path.py": ("wire.py",),
    "http/test_clients.py": ("http/sync_client.py", "http/async_client.py"),
    "http/test_connections.py": ("http/sync_client.py", "http/async_client.py"),
    "http/test_hostile_servers.py": ("http/exchange.py", "http/limits.py", "http/messages.py"),
    "http/test_retries.py": ("core/run.py", "core/gates.py", "http/sync_client.py", "http/async_client.py"),
    "http/test_reuse.py": ("http/sync_pool.py", "http/async_connector.py", "http/session_client.py"),
    "templates/test_format.py": ("templates/schema.py", "templates/validate.py", "templates/render.py"),
    "templates/test_round_trip.py": ("templates/base.py", "templates/render.py", "templates/history.py"),
    "templates/test_growing.py": ("templates/base.py", "templates/render.py"),
    "test_missing_extras.py": (".",),
    "test_package.py": (".",),
    "test_tree.py": (".",),
}
UNIT = ROOT / "tests" / "unit"
SUITES = sorted(path.relative_to(UNIT) for path in UNIT.rglob("test_*.py"))


@pytest.mark.parametrize("suite", SUITES, ids=str)
def test_the_tests_of_a_module_are_found_by_its_path(suite):
    """tests/unit/core/test_answer.py tests lagent_llms/core/answer.py; a package may have a suite, too."""
    module = PACKAGE / suite.parent / suite.stem.removeprefix("test_")
    modules = [PACKAGE / name for name in SPANNING.get(suite.as_posix(), ())]
    if not modules:
        assert module.is_dir() or module.with_suffix(".py").is_file(), f"there is no {module}"
    for spanned in modules:
        assert spanned.exists(), f"SPANNING names {spanned}, which does not exist"


def test_the_table_of_spanning_suites_is_no_longer_than_needed():
    for name in SPANNING:
        module = PACKAGE / name.replace("test_", "")
        assert not module.is_file(), f"{name} tests {module}; take it out of SPANNING"


def test_integration_tests_lie_in_the_folder_of_a_backend_or_a_room():
    rooms = {path.name for path in (*PACKAGE.iterdir(), *(PACKAGE / "backends").iterdir()) if path.is_dir()}
    folders = {path.name for path in (ROOT / "tests" / "integration").iterdir() if any(path.glob("*.py"))}
    assert folders - {"smoke"} <= rooms  # smoke: one test of each extra, with its lowest versions
