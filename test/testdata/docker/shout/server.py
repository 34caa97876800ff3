"""Runner protocol 1 in the standard library: one model that shouts back what it is told, word by word."""
import hmac
import http.server
import json
import os

LOADED: set = set()
TOKEN = os.environ.get("BERTH_TOKEN")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def fail(self, status, code, message):
        self.answer(status, {"error": {"code": code, "message": message}})

    def do_GET(self):
        if self.path != "/health":
            return self.fail(501, "UNSUPPORTED", "not here")
        state = "ready" if LOADED else "idle"
        self.answer(200, {"protocol": 1, "state": state, "models": sorted(LOADED), "inflight": 0})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))))
        given = self.headers.get("authorization", "")
        if TOKEN and not hmac.compare_digest(given, f"Bearer {TOKEN}"):
            return self.fail(401, "UNAUTHORIZED", "wrong token")
        if self.path == "/load":
            LOADED.update(body["models"])
            return self.answer(200, {"loaded": sorted(body["models"])})
        if self.path == "/offload":
            gone = [name for name in body["models"] if name in LOADED]
            LOADED.difference_update(gone)
            return self.answer(200, {"offloaded": gone})
        if self.path != "/infer":
            return self.fail(501, "UNSUPPORTED", "not here")
        self.send_response(200)
        self.send_header("content-type", "application/x-ndjson")
        self.send_header("connection", "close")
        self.end_headers()
        for word in str(body["parameters"].get("say", "")).split():
            # The short form, with the spaces that json.dumps writes: the orchestrator puts both right.
            self.wfile.write((json.dumps({"chunk": {"text": word.upper()}}) + "\n").encode())
        self.wfile.write((json.dumps({"done": True}) + "\n").encode())
        self.close_connection = True

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("", int(os.environ.get("BERTH_PORT", "8000"))), Handler).serve_forever()
