import http.server
import json
import os


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        seen = {"uid": os.getuid(), "names": sorted(name for name in os.environ if name.startswith("BERTH_"))}
        body = json.dumps({"protocol": 1, "state": "idle", "models": [], "inflight": 0, "seen": seen}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


http.server.ThreadingHTTPServer(("", int(os.environ.get("BERTH_PORT", "8000"))), Handler).serve_forever()
