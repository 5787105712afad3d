"""The example's applications alone, without a mesh: real processes on free loopback ports."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from email.message import Message
from pathlib import Path
from typing import NamedTuple

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "bookinfo"


class App(NamedTuple):
    """A running service: its process, its port and the lines that it has logged."""

    process: subprocess.Popen[str]
    port: int
    lines: list[str]

    def get(self, path: str, **headers: str) -> tuple[int, Message, str]:
        return self.send(path, headers=headers)

    def send(
        self, path: str, data: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Message, str]:
        """One request, redirects not followed: status, headers and text of the response."""
        names = {name.replace("_", "-"): value for name, value in (headers or {}).items()}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=data, headers=names)
        try:
            with _NO_REDIRECTS.open(request, timeout=20) as response:
                return response.status, response.headers, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read().decode()

    def wait_for_line(self, pattern: str) -> str:
        """The first logged line that matches; fails after a while."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if found := next((line for line in self.lines if re.search(pattern, line)), None):
                return found
            time.sleep(0.02)
        raise AssertionError(f"no line like {pattern!r} in {self.lines}")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


_NO_REDIRECTS = urllib.request.build_opener(_NoRedirects, urllib.request.ProxyHandler({}))


class Shop:
    """Starts services that know each other by environment variables, as in the mesh's loopback mode."""

    def __init__(self) -> None:
        self.apps: list[App] = []

    def start(self, service: str, version: str = "v1", **peers: int) -> App:
        environment = {
            "PATH": os.environ["PATH"],
            "PORT": "0",
            "LATEEN_BIND_ADDRESS": "127.0.0.1",
            "VERSION": version,
            "POD_NAME": f"{service}-{version}-0",
        }
        for name, port in peers.items():
            environment |= {f"{name.upper()}_SERVICE_HOST": "127.0.0.1", f"{name.upper()}_SERVICE_PORT": str(port)}
        process = subprocess.Popen(
            [sys.executable, f"{service}.py"], cwd=EXAMPLE, env=environment, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        first = process.stdout.readline()
        lines: list[str] = []
        threading.Thread(target=lines.extend, args=(process.stdout,), daemon=True).start()
        app = App(process, int(first.rpartition(":")[2]), lines)
        self.apps.append(app)
        return app

    def close(self) -> None:
        for app in self.apps:
            app.process.terminate()
        for app in self.apps:
            assert app.process.wait(10) == 0


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    running = Shop()
    yield running
    running.close()


@pytest.fixture(scope="module")
def details(shop: Shop) -> App:
    return shop.start("details")


@pytest.fixture(scope="module")
def ratings(shop: Shop) -> App:
    return shop.start("ratings")


@pytest.fixture(scope="module")
def reviews(shop: Shop, ratings: App) -> dict[str, App]:
    return {version: shop.start("reviews", version, ratings=ratings.port) for version in ("v1", "v2", "v3")}


@pytest.fixture(scope="module")
def pages(shop: Shop, details: App, reviews: dict[str, App], ratings: App) -> dict[str, App]:
    """A product page before each version of the reviews."""
    return {
        version: shop.start("productpage", details=details.port, reviews=app.port, ratings=ratings.port)
        for version, app in reviews.items()
    }


@pytest.fixture(scope="module")
def closed_port() -> Iterator[int]:
    """A port at which nobody listens: bound, so that nobody else gets it."""
    with closing(socket.socket()) as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@pytest.mark.parametrize(("version", "stars"), [("v1", None), ("v2", "black"), ("v3", "red")])
def test_page_shows_stars_of_the_version(pages: dict[str, App], version: str, stars: str | None) -> None:
    status, headers, html = pages[version].get("/productpage")
    assert status == 200
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert "The Comedy of Errors" in html
    assert "Lee Shore Press" in html
    assert re.findall(r'class="stars (\w+)"', html) == ([stars, stars] if stars else [])
    assert f"reviews-{version}-0" in html
    assert "details-v1-0" in html
    assert ("ratings-v1-0" in html) == bool(stars)


def test_page_is_safe_for_a_browser(pages: dict[str, App]) -> None:
    _, headers, html = pages["v3"].get("/productpage")
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe-inline" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert "<script" not in html
    assert "style=" not in html
    for path in re.findall(r'(?:href|src)="(/static/[^"]+)"', html):
        status, headers, _ = pages["v3"].get(path)
        assert status == 200
        assert headers["content-type"].startswith(("text/css", "image/svg"))


def test_sign_in_sends_the_user_to_the_peers(pages: dict[str, App], reviews: dict[str, App], ratings: App) -> None:
    status, headers, _ = pages["v2"].send("/login", b"user=jason")
    assert (status, headers["location"]) == (303, "/productpage")
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    _, _, html = pages["v2"].get("/productpage", cookie=cookie.partition(";")[0], x_request_id="sign-in-1")
    assert "Signed in as <strong>jason</strong>" in html
    assert "user=jason" in reviews["v2"].wait_for_line("request=sign-in-1")
    assert "user=jason" in ratings.wait_for_line("request=sign-in-1")
    status, headers, _ = pages["v2"].send("/logout", b"")
    assert status == 303
    assert "Max-Age=0" in headers["set-cookie"]


def test_forged_user_header_is_dropped(pages: dict[str, App], reviews: dict[str, App]) -> None:
    pages["v2"].get("/productpage", end_user="jason", x_request_id="forged-1")
    assert "user=- " in reviews["v2"].wait_for_line("request=forged-1")


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "", "a b", "x" * 33, "ja\r\nson"])
def test_odd_user_names_are_refused(pages: dict[str, App], name: str) -> None:
    body = f"user={urllib.parse.quote(name)}".encode()
    status, headers, _ = pages["v1"].send("/login", body)
    assert status == 400
    assert headers["set-cookie"] is None
    _, _, html = pages["v1"].get("/productpage", cookie=f"user={urllib.parse.quote(name)}")
    assert "Signed in as" not in html


def test_trace_headers_are_handed_on(shop: Shop) -> None:
    sent = {
        "x-request-id": "trace-1",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "baggage": "tenant=blue",
        "x-b3-traceid": "80f198ee56343ba864fe8b2a57d3eff7",
        "user-agent": "test",
    }
    with closing(socket.create_server(("127.0.0.1", 0))) as peer:
        reviews = shop.start("reviews", "v2", ratings=peer.getsockname()[1])
        answers: list[bytes] = []
        thread = threading.Thread(target=lambda: answers.append(_answer_once(peer)), daemon=True)
        thread.start()
        status, _, _ = reviews.send("/reviews/0", headers=sent | {"cookie": "secret=1", "authorization": "no"})
        thread.join(10)
    assert status == 200
    seen = answers[0].decode().lower()
    assert all(f"{name}: {value}".lower() in seen for name, value in sent.items())
    assert "cookie" not in seen
    assert "authorization" not in seen


def _answer_once(listener: socket.socket, wait: threading.Event | None = None) -> bytes:
    """Take one request, answer with ratings (after ``wait`` is set), and give back the request."""
    connection, _ = listener.accept()
    with connection:
        request = connection.recv(65536)
        if wait is not None:
            wait.wait(10)
        body = b'{"pod": "stub", "ratings": {"Reviewer1": 1}}'
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        return request


def test_failing_peers_leave_a_notice(shop: Shop, details: App, closed_port: int) -> None:
    reviews = shop.start("reviews", "v2", ratings=closed_port)
    page = shop.start("productpage", details=details.port, reviews=reviews.port, ratings=closed_port)
    status, _, html = page.get("/productpage")
    assert status == 200
    assert html.count("<strong>Ratings service is currently unavailable</strong>") == 2
    assert "Two pairs of twins, one town" in html

    page = shop.start("productpage", details=closed_port, reviews=closed_port)
    status, _, html = page.get("/productpage")
    assert status == 200
    assert "Details are currently unavailable" in html
    assert "Reviews are currently unavailable" in html
    assert "Connection refused" in html


def test_api(pages: dict[str, App], shop: Shop, closed_port: int) -> None:
    page = pages["v3"]
    assert json.loads(page.get("/api/v1/products")[2])[0]["title"] == "The Comedy of Errors"
    assert json.loads(page.get("/api/v1/products/0")[2])["author"] == "William Shakespeare"
    answer = json.loads(page.get("/api/v1/products/0/reviews")[2])
    assert (answer["version"], answer["pod"]) == ("v3", "reviews-v3-0")
    assert answer["reviews"][0]["rating"] == {"stars": 5, "color": "red", "pod": "ratings-v1-0"}
    assert json.loads(page.get("/api/v1/products/0/ratings")[2])["ratings"] == {"Reviewer1": 5, "Reviewer2": 4}
    assert page.get("/api/v1/products/1")[0] == 404
    assert page.get("/static/../common.py")[0] == 404
    broken = shop.start("productpage", details=closed_port)
    status, _, body = broken.get("/api/v1/products/0")
    assert status == 503
    assert "refused" in json.loads(body)["error"]


def test_a_failing_answer_of_a_peer_is_escaped(shop: Shop) -> None:
    body = b"<b>bad</b>"
    with closing(socket.create_server(("127.0.0.1", 0))) as peer:
        page = shop.start("productpage", details=peer.getsockname()[1], reviews=peer.getsockname()[1])

        def answer() -> None:
            for _ in range(2):
                connection, _ = peer.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

        threading.Thread(target=answer, daemon=True).start()
        _, _, html = page.get("/productpage")
    assert html.count("403 &lt;b&gt;bad&lt;/b&gt;") == 2
    assert "<b>bad" not in html


def test_keep_alive_and_one_segment(pages: dict[str, App]) -> None:
    with closing(socket.create_connection(("127.0.0.1", pages["v1"].port), timeout=10)) as connection:
        for _ in range(3):
            connection.sendall(b"GET /api/v1/products HTTP/1.1\r\nHost: shop\r\n\r\n")
            segment = connection.recv(65536)
            head, _, body = segment.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            assert f"content-length: {len(body)}".encode() in head.lower()
            assert json.loads(body)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"Transfer-Encoding: chunked", b"411"),
        (b"Content-Length: 1\r\nContent-Length: 2", b"411"),
        (b"Content-Length: -1", b"411"),
        (b"Content-Length: 9999999", b"413"),
    ],
)
def test_bodies_that_cannot_be_read_are_refused(details: App, head: bytes, status: bytes) -> None:
    with closing(socket.create_connection(("127.0.0.1", details.port), timeout=10)) as connection:
        connection.sendall(b"POST /details/0 HTTP/1.1\r\nHost: shop\r\n" + head + b"\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert b"Connection: close" in answer


def test_a_stop_finishes_what_has_begun(shop: Shop) -> None:
    release = threading.Event()
    with closing(socket.create_server(("127.0.0.1", 0))) as peer:
        reviews = shop.start("reviews", "v3", ratings=peer.getsockname()[1])
        threading.Thread(target=_answer_once, args=(peer, release), daemon=True).start()
        answers: list[tuple[int, Message, str]] = []
        client = threading.Thread(target=lambda: answers.append(reviews.get("/reviews/0")))
        client.start()
        time.sleep(0.3)
        reviews.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        assert reviews.process.poll() is None
        release.set()
        client.join(10)
    status, headers, body = answers[0]
    assert status == 200
    assert headers["connection"] == "close"
    assert json.loads(body)["reviews"][0]["rating"]["stars"] == 1
    assert reviews.process.wait(10) == 0


def test_a_request_whose_client_has_gone_is_logged(shop: Shop) -> None:
    """As after a timeout in the mesh: the work is done all the same, and the log says so."""
    release = threading.Event()
    with closing(socket.create_server(("127.0.0.1", 0))) as peer:
        reviews = shop.start("reviews", "v2", ratings=peer.getsockname()[1])
        threading.Thread(target=_answer_once, args=(peer, release), daemon=True).start()
        with closing(socket.create_connection(("127.0.0.1", reviews.port), timeout=10)) as client:
            client.sendall(b"GET /reviews/0 HTTP/1.1\r\nHost: shop\r\nX-Request-Id: gone-1\r\n\r\n")
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            time.sleep(0.3)
        release.set()
        reviews.wait_for_line("/reviews/0 200 .* request=gone-1")
    assert reviews.get("/reviews/0")[0] == 200


def test_health_checks_are_not_logged(details: App) -> None:
    assert details.get("/health")[::2] == (200, "ok\n")
    details.get("/details/0")
    details.wait_for_line("/details/0 200")
    assert not any("/health" in line for line in details.lines)
