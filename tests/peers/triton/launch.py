"""NVIDIA's tritonserver with the embedded model and scripted ones, each speaking one of the dialects.

    launch.py                                   every model of repository.py on free ports
    launch.py --grpc-port 8001 --http-port 8000 --models trtllm,vllm
    launch.py --log-verbose=1                   any other flag is tritonserver's

Run it with the Python of the environment that `scripts/peer triton` makes. Ctrl-C ends it.
"""

import argparse
import contextlib
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from tests.peers.triton.server import Server


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--grpc-port", type=int, default=0)
    parser.add_argument("--http-port", type=int, default=0)
    parser.add_argument("--models", help="names, joined by commas; all when left out")
    given, flags = parser.parse_known_args()
    models = given.models.split(",") if given.models else None
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = Server(sys.executable, models, grpc_port=given.grpc_port, http_port=given.http_port, flags=flags)
    try:
        server.wait_ready()
        print(
            f"gRPC at {server.grpc}, HTTP at {server.http}; models: {', '.join(models or ['all'])}",
            flush=True,
        )
        with contextlib.suppress(KeyboardInterrupt):
            while server.child.ended() is None:
                time.sleep(0.5)
    finally:
        server.stop()


if __name__ == "__main__":
    main()
