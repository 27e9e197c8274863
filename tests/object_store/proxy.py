"""A proxy before an S3 server that answers 503, answers late, or loses answers; run as a process: PORT of the server.

``/__faults`` is its own: POST says what to do ({"fail": share, "lost": share, "slow": share, "delay_s": seconds,
"status": of what fails, "only": pattern of "METHOD path", "times": not more often}), GET tells what was asked and done since.
"""

import contextlib
import http.client
import json
import random
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BUSY = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
QUIET = {"status": 503, "fail": 0.0, "lost": 0.0, "slow": 0.0, "delay_s": 0.0, "only": "", "times": 10**9}
LOCK = threading.Lock()
PLAN: dict = dict(QUIET)
DONE: list[dict] = []
DRAWS = random.Random(7)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize, disable_nagle_algorithm = -1, True  # an answer is one packet, or clients wait 40 ms for the second

    def log_message(self, *_):
        pass

    def handle_any(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/__faults":
            return self.control(body)
        with LOCK:
            plan = dict(PLAN)
            draw = {kind: DRAWS.random() < plan[kind] for kind in ("fail", "lost", "slow")}
            meant = PLAN["times"] > 0 and re.search(plan["only"], f"{self.command} {self.path}")
            fate = next((kind for kind in ("fail", "lost", "slow") if meant and draw[kind]), "passed")
            PLAN["times"] -= fate != "passed"
        if fate == "slow":
            time.sleep(plan["delay_s"])
        status, headers, answer = (int(plan["status"]), [], BUSY) if fate == "fail" else self.forward(body)
        if fate == "lost":
            status, headers, answer = 503, [], BUSY
        asked = {name: self.headers[name] for name in ("Range", "If-None-Match", "If-Match") if name in self.headers}
        with LOCK:
            DONE.append({"fate": fate, "method": self.command, "path": self.path, "status": status, **asked})
        self.answer(status, headers, answer)

    def forward(self, body):
        connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=30)
        connection.request(self.command, self.path, body, dict(self.headers))
        got = connection.getresponse()
        answer = got.read()
        connection.close()
        return got.status, got.getheaders(), answer

    def answer(self, status, headers, body):
        self.send_response(status)
        dropped = {"transfer-encoding", "connection", "date", "server"}
        if self.command != "HEAD" or not headers:
            dropped.add("content-length")
        for name, value in headers:
            if name.lower() not in dropped:
                self.send_header(name, value)
        if "content-length" in dropped and status != 204:
            self.send_header("Content-Length", "0" if self.command == "HEAD" else str(len(body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            if self.command != "HEAD":
                self.wfile.write(body)
            self.wfile.flush()

    def control(self, body):
        with LOCK:
            if self.command == "POST":
                PLAN.update(QUIET | json.loads(body))
                DONE.clear()
            said = json.dumps(DONE).encode()
        self.answer(200, [], said)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any


class Server(ThreadingHTTPServer):
    def handle_error(self, *_):
        """A client that was killed."""


if __name__ == "__main__":
    server = Server(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()
