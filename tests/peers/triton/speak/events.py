"""Events of the models, as JSON lines in a file that tests read.

``begin`` (id, model, inputs, parameters, request_id, correlation_id), ``end`` (id, why: done, cancelled or
error; tokens sent).
"""

import json
import os


def log_event(event, **details):
    line = json.dumps({"event": event, **details}, ensure_ascii=False) + "\n"
    file = os.open(os.environ["TRITON_PEER_EVENTS"], os.O_WRONLY | os.O_APPEND)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)
