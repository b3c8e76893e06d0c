"""A JAXServer without a package of the extra `server`; tests/unit/test_missing_extras.py has the others."""

import pytest

from tests.unit.test_missing_extras import WITHOUT, python


@pytest.mark.parametrize("package", ["fastapi", "uvicorn", "psutil", "prometheus_client"])
def test_the_server_extra_of_a_jax_server(package):
    done = python(
        WITHOUT.format(package=package) + "from lagent_llms import MissingDependency\n"
        "try:\n    from lagent_llms import JAXServer\n"
        "except MissingDependency as error:\n    print(error.extra, error)\n"
    )
    assert done.stderr == ""
    assert done.stdout == f"server {package} is not installed; run: pip install 'lagent_llms[server]'\n"
