"""Arguments of the pipeline."""

import pytest

from lagent_llms import InvalidArgument, LMDeployPipeline


def test_pipeline_options_are_a_dict():
    with pytest.raises(InvalidArgument, match="pipeline_cfg="):
        LMDeployPipeline("x", pipeline_cfg=["max_batch_size"])
