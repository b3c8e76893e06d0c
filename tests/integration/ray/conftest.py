"""One cluster of three nodes on this machine for all tests of this folder; the tests are its driver."""

import os
from pathlib import Path

import pytest

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # otherwise Ray replaces 127.0.0.1
ROOT = str(Path(__file__).parents[3])


@pytest.fixture(scope="package")
def cluster():
    """A head for the driver, without CPUs, and two nodes with three."""
    import ray
    from ray.cluster_utils import Cluster

    environment = pytest.MonkeyPatch()  # of Ray's workers, and of this process until the cluster ends
    environment.setenv("PYTHONPATH", ROOT, prepend=os.pathsep)
    small = {"object_store_memory": 80 << 20}
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **small}
    )
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=3, **small)
        ray.init(cluster.address, logging_level="WARNING", log_to_driver=False)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()
        environment.undo()
