"""The wheel, the sdist and an editable install, built and installed as by a user."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DATA = ["models/embedded", "models/adapters"]
FAMILIES = """
from lagent_llms.templates import available_templates, load_template
print(len({load_template(name).name for name in available_templates()}))
"""


def run(*command, **options):
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, env=clean, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with the sdist and the wheel built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT)
    return folder


@pytest.fixture(scope="module")
def wheel(built):
    (found,) = built.glob("lagent_llms-*-py3-none-any.whl")
    return found


def in_the_repository(folder):
    files = run("git", "ls-files", folder, cwd=ROOT).split()
    assert files, folder
    return set(files)


def families():
    found = {name for name in in_the_repository("meta_templates") if name.endswith(".yaml")}
    assert len(found) == 68
    return found


def test_the_wheel_has_all_of_the_package(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert in_the_repository("lagent_llms") <= names
    assert "lagent_llms/py.typed" in names
    for data in DATA:
        assert any(name.startswith(f"lagent_llms/{data}/") for name in names)
    assert {f"lagent_llms/{family}" for family in families()} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"lagent_llms"}


def test_the_sdist_has_what_the_tests_need(built):
    (sdist,) = built.glob("lagent_llms-*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for folder in (
        "lagent_llms",
        "meta_templates",
        "tests",
        "examples",
        "benchmarks",
        "training",
        "scripts",
        "docs",
    ):
        assert in_the_repository(folder) <= names


def test_an_installed_wheel_chats(wheel, tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--no-compile", f"{wheel}[jax,cli]")
    said = run(python.with_name("lagent-llms"), "chat", "What is the capital of France?", cwd=tmp_path)
    assert said == "The capital of France is Paris.\n"
    code = "import lagent_llms; print(lagent_llms.__file__, lagent_llms.INTERNLM2_META[0]['role'])"
    where, role = run(python, "-c", code, cwd=tmp_path).split()
    assert Path(where).is_relative_to(tmp_path / "venv")
    assert role == "system"
    assert run(python, "-c", FAMILIES, cwd=tmp_path) == "68\n"


def test_families_of_an_editable_install_are_those_of_the_checkout(tmp_path):
    checkout, environment = tmp_path / "checkout", tmp_path / "venv"
    for name in ("lagent_llms", "meta_templates"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    venv.create(environment)
    python = environment / "bin" / "python"
    run(
        sys.executable, "-m", "pip", "--python", python, "install", "-qq", "--no-deps", "--editable", checkout
    )
    (site,) = environment.glob("lib/python*/site-packages")
    assert not [*site.rglob("*.yaml")]  # a copy would become outdated

    def inside(code):  # the dependencies are those of the running environment, after the installed checkout
        path = f"import sys; sys.path.append({sysconfig.get_path('purelib')!r})\n"
        return run(python, "-c", path + code, cwd=tmp_path)

    assert inside(FAMILIES) == "68\n"
    render = "from lagent_llms.templates import load_template\n"
    render += "print(load_template('chatml').render([{'role': 'user', 'content': 'x'}]))"
    assert "<|im_start|>user" in inside(render)
    family = checkout / "meta_templates" / "chatml.yaml"
    family.write_text(
        family.read_text(encoding="utf-8").replace("<|im_start|>", "<|edited|>"), encoding="utf-8"
    )
    assert "<|edited|>user" in inside(render)
    (checkout / "meta_templates" / "mine.yaml").write_bytes(family.read_bytes().replace(b"chatml", b"mine"))
    assert inside("import lagent_llms.templates as t; print('mine' in t.available_templates())") == "True\n"
