"""The wheel and the sdist, built and installed as a user does."""

import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DATA = ["meta_templates", "models/embedded", "models/adapters"]


def run(*command, **options):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with the sdist, and the wheel that is built from the sdist."""
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


def test_the_wheel_has_all_of_the_package(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert in_the_repository("lagent_llms") <= names
    assert "lagent_llms/py.typed" in names
    for data in DATA:
        assert any(name.startswith(f"lagent_llms/{data}/") for name in names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"lagent_llms"}


def test_the_sdist_has_what_the_tests_need(built):
    (sdist,) = built.glob("lagent_llms-*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for folder in ("lagent_llms", "tests", "examples", "benchmarks", "training", "scripts", "docs"):
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
