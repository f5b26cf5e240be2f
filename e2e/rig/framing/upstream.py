"""An upstream on Python's http.server: one line of JSON for each message that came to its end.

It reads chunks by itself, because http.server does not know them.
"""

import http.client
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

http.client._MAXHEADERS = 1000


class Upstream(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __getattr__(self, name):
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)

    def answer(self):
        body = self.body()
        if body is None:
            self.close_connection = True
            return
        line = f"{self.command} {self.path}"
        sys.stdout.write(json.dumps({"line": line, "body": body.decode("latin-1")}) + "\n")
        sys.stdout.flush()
        self.send_response(400 if self.headers.get("upgrade") else 200)
        self.send_header("content-length", "2")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(b"ok")

    def body(self):
        """The whole body, or None where it breaks off."""
        if self.headers.get("transfer-encoding") == "chunked":
            return self.chunks()
        length = int(self.headers.get("content-length", "0"))
        body = self.rfile.read(length)
        return body if len(body) == length else None

    def chunks(self):
        body = b""
        while True:
            try:
                size = int(self.rfile.readline(), 16)
            except ValueError:
                return None
            if size == 0:
                break
            chunk = self.rfile.read(size)
            if len(chunk) != size or self.rfile.read(2) != b"\r\n":
                return None
            body += chunk
        while True:
            line = self.rfile.readline()
            if line == b"\r\n":
                return body
            if line == b"":
                return None

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Upstream).serve_forever()
