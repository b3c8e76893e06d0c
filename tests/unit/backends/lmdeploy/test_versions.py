"""Known versions of lmdeploy, and versions too old for the pipeline."""

import warnings

import pytest

from lagent_llms import MissingDependency
from lagent_llms.backends.lmdeploy.engine import _check_version
from lagent_llms.backends.lmdeploy.versions import check_version


def test_an_unknown_version_warns_once():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_version("0.18.0") == (0, 18)
        assert check_version("0.6.0a1") == (0, 6)
    with pytest.warns(UserWarning, match=r"lmdeploy 0\.99\.1 is unknown"):
        check_version("0.99.1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_version("0.99.1") == (0, 99)
    with pytest.warns(UserWarning, match="lmdeploy next"):
        check_version("next")


def test_the_pipeline_refuses_an_old_version():
    _check_version("0.17.0")
    _check_version("0.18.0")
    with pytest.raises(MissingDependency, match=r"lmdeploy 0\.12\.3 is too old .* needs 0\.17 or newer"):
        _check_version("0.12.3")
