"""A program with the command line of ``lmdeploy serve api_server`` that loads no model. Run as a script.

The message of a request says what to do: 'hello' gets an answer; at 'vanish' the server stops listening,
waits until another process listens at its port, and answers that the request may be repeated.
"""

import argparse
import json
import os
import socket
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.answer({"object": "list", "data": [{"id": arguments.model_name}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if body["messages"][-1]["content"] == "vanish":
            self.server.socket.close()
            while True:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", arguments.server_port)) == 0:
                        break
                time.sleep(0.01)
            self.close_connection = True
            self.answer({"message": "busy"}, 503)
            return
        message = {"role": "assistant", "content": f"answered by {os.getpid()}"}
        self.answer({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})

    def answer(self, value, status=200):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("--server-name", "--model-name"):
        parser.add_argument(name)
    parser.add_argument("--server-port", type=int)
    arguments, _ = parser.parse_known_args()
    time.sleep(float(os.environ.get("LOAD_SECONDS", "0")))
    if ":" in arguments.server_name:
        ThreadingHTTPServer.address_family = socket.AF_INET6
    ThreadingHTTPServer((arguments.server_name, arguments.server_port), Handler).serve_forever()
