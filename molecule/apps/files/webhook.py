"""Keeps what Alertmanager posts; GET /ALERT?seconds=N waits that long for an alert of this name."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

came: dict[str, dict[str, object]] = {}
news = threading.Condition()


class Webhook(BaseHTTPRequestHandler):
    """Posts are kept by the names of their alerts, the first of each."""

    def do_POST(self) -> None:
        """Keep a notification."""
        posted = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with news:
            for alert in posted["alerts"]:
                came.setdefault(alert["labels"]["alertname"], {"time": time.time(), "alert": alert})
            news.notify_all()
        self.answer({})

    def do_GET(self) -> None:
        """Answer with an alert, or with nothing when it does not come."""
        asked = urlsplit(self.path)
        name, seconds = asked.path.strip("/"), parse_qs(asked.query).get("seconds", ["0"])
        with news:
            news.wait_for(lambda: name in came, float(seconds[0]))
            self.answer(came.get(name, {}))

    def answer(self, body: object) -> None:
        """Send JSON."""
        content = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


ThreadingHTTPServer(("", 8080), Webhook).serve_forever()
