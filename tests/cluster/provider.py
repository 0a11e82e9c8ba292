"""A provider whose every answer takes its time: a program of its own, run in a Pod. ``python provider.py SECONDS``."""

from __future__ import annotations

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = 9100


class Provider(BaseHTTPRequestHandler):
    """Answers every POST with the same words."""

    seconds = 0.0

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        time.sleep(self.seconds)
        message = {"role": "assistant", "content": "At last."}
        answer = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": asked["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
        }
        body = json.dumps(answer).encode()
        if asked.get("stream"):
            chunk = answer | {"object": "chat.completion.chunk"}
            chunk["choices"] = [{"index": 0, "delta": message, "finish_reason": "stop"}]
            body = b"data: " + json.dumps(chunk).encode() + b"\n\ndata: [DONE]\n\n"
        self.send_response(200)
        self.send_header("content-type", "text/event-stream" if asked.get("stream") else "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """As many connections at once as nodes make."""

    daemon_threads = True
    request_queue_size = 256


if __name__ == "__main__":
    Provider.seconds = float(sys.argv[1])
    Server(("", PORT), Provider).serve_forever()
