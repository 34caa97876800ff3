"""An image that speaks the runner protocol with Python's standard library alone, as somebody else would write it."""

import http.server
import json
import os
import socketserver

token = os.environ.get("BERTH_TOKEN")
loaded = {}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/health":
            state = "ready" if loaded else "idle"
            return self.answer(200, {"protocol": 1, "state": state, "models": list(loaded), "inflight": 0})
        self.answer(501, {"error": {"code": "NOT_FOUND", "message": "no such call"}})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])) or b"{}")
        if token and self.headers["authorization"] != f"Bearer {token}":
            return self.answer(401, {"error": {"code": "UNAUTHORIZED", "message": "a wrong token"}})
        if self.path == "/load":
            if any(config.get("broken") for config in body["models"].values()):
                return self.answer(500, {"error": {"code": "E_WEIGHTS", "message": "the weights are gone"}})
            loaded.update(body["models"])
            return self.answer(200, {"loaded": list(body["models"])})
        if self.path == "/offload":
            gone = [name for name in body["models"] if loaded.pop(name, None) is not None]
            return self.answer(200, {"offloaded": gone})
        if self.path == "/infer":
            return self.infer(body)
        self.answer(501, {"error": {"code": "NOT_FOUND", "message": "no such call"}})

    def infer(self, body):
        wish = body["parameters"].get("do", "answer")
        if wish == "refuse":
            return self.answer(500, {"error": {"code": "OUT_OF_MEMORY", "message": "it does not fit"}})
        self.send_response(200)
        self.send_header("content-type", "application/x-ndjson")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        # At the chunk's top, without `response`, as an image may.
        self.line({"chunk": {"text": "from the image", "extra": {"config": loaded.get(body["model"])}}})
        if wish == "break":
            self.close_connection = True
            return
        if wish == "fail":
            self.line({"error": {"code": "E_OWN", "message": "an error of its own"}})
        elif wish == "nonsense":
            self.line("nonsense")
        else:
            self.line({"chunk": {"response": {"text": ", wrapped or not"}, "warnings": [], "errors": []}})
            self.line({"done": True})
        self.wfile.write(b"0\r\n\r\n")

    def line(self, frame):
        data = json.dumps(frame).encode() + b"\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True


Server(("", int(os.environ.get("BERTH_PORT", "8000"))), Handler).serve_forever()
