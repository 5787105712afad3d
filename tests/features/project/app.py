"""The application of the feature tests: answers with what it saw, and fetches from others on request.

``/echo`` tells what arrived; ``/status/503`` answers so; ``/flaky/KEY/N`` fails N times for a key, then answers;
``/fetch?url=...&h=name:value`` calls out, as the client of a service would; ``/via/PATH`` asks echo and answers as it
did; ``/tcp?to=host:port`` speaks plain TCP.
"""

import http.client
import http.server
import json
import os
import signal
import socket
import sys
import threading
import time
import urllib.parse

SEEN = {}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, value, status=200):
        body = json.dumps(value).encode()
        head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        self.wfile.write(head.encode() + (b"" if self.command == "HEAD" else body))

    def handle_any(self):
        length = int(self.headers.get("content-length") or 0)
        self.rfile.read(length)
        url = urllib.parse.urlsplit(self.path)
        parts = url.path.strip("/").split("/")
        SEEN[url.path] = SEEN.get(url.path, 0) + 1
        if parts[0] == "status":
            return self.answer({"pod": os.environ.get("POD_NAME")}, int(parts[1]))
        if parts[0] == "flaky":
            return self.answer({"tries": SEEN[url.path]}, 503 if SEEN[url.path] <= int(parts[2]) else 200)
        if parts[0] == "slow":
            time.sleep(float(parts[1]))
        if parts[0] == "seen":
            return self.answer(SEEN.get("/" + "/".join(parts[1:]), 0))
        if parts[0] == "die":
            os._exit(3)
        if parts[0] == "fetch":
            return self.answer(fetch(urllib.parse.parse_qs(url.query)))
        if parts[0] == "via":
            found = fetch({"url": [f"http://echo:8000/{self.path[len('/via/') :]}"], "method": [self.command]})
            return self.answer(json.loads(found.get("body") or "{}"), found["status"] or 502)
        if parts[0] == "tcp":
            return self.answer(plain(urllib.parse.parse_qs(url.query)["to"][0]))
        return self.answer(
            {
                "version": os.environ.get("VERSION"),
                "pod": os.environ.get("POD_NAME"),
                "method": self.command,
                "path": self.path,
                "headers": {name.lower(): value for name, value in self.headers.items()},
                "lines": [[name.lower(), value] for name, value in self.headers.items()],
                "peer": self.client_address[0],
            }
        )

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = handle_any


def place(host, port):
    """Where a service is: by its name, or by the environment where there are no names."""
    prefix = host.split(".")[0].upper().replace("-", "_")
    return os.environ.get(f"{prefix}_SERVICE_HOST", host), port


def fetch(query):
    url = urllib.parse.urlsplit(query["url"][0])
    headers = dict(pair.split(":", 1) for pair in query.get("h", []))
    host, port = place(url.hostname, url.port or 80)
    started = time.monotonic()
    connection = http.client.HTTPConnection(host, port, timeout=10)
    try:
        target = url.path + (f"?{url.query}" if url.query else "")
        connection.request(query.get("method", ["GET"])[0], target or "/", headers=headers)
        answer = connection.getresponse()
        body = answer.read().decode(errors="replace")
        shown = {name.lower(): value for name, value in answer.getheaders()}
        return {"status": answer.status, "headers": shown, "body": body, "seconds": time.monotonic() - started}
    except OSError as problem:
        return {"status": 0, "error": repr(problem), "seconds": time.monotonic() - started}
    finally:
        connection.close()


def plain(to):
    host, _, port = to.rpartition(":")
    try:
        with socket.create_connection(place(host, int(port)), timeout=3) as connection:
            connection.sendall(b"hello\n")
            return {"got": connection.recv(100).decode()}
    except OSError as problem:
        return {"error": repr(problem)}


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


def serve_tcp(address, port):
    listener = socket.create_server((address, port))

    def one(connection):
        with connection:
            connection.sendall(b"echo " + connection.recv(100))

    while True:
        threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()


address = os.environ.get("LATEEN_BIND_ADDRESS", "0.0.0.0")
if os.environ.get("TCP_PORT"):
    threading.Thread(target=serve_tcp, args=(address, int(os.environ["TCP_PORT"])), daemon=True).start()
server = Server((address, int(os.environ["PORT"])), Handler)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever()
server.server_close()
sys.exit(0)
