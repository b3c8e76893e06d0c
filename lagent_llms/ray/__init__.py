"""Many machines, with Ray Data: `generate` answers the rows of a dataset, `run_batch` runs a batch job."""

from .generate import generate
from .job import ClusterRun, run_batch

__all__ = ["ClusterRun", "generate", "run_batch"]
