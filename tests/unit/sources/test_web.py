"""Documents are fetched from a real site; what is too much, too odd or at a forbidden place is not."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from pathlib import Path

import pytest

from lateen.sources.web import MAX_BODY_BYTES, FetchError, WebFetcher
from lateen.values.web_address import parse_networks
from tests.envoy import key_site
from tests.envoy.harness import Authority, free_port
from tests.envoy.key_site import KeySite, answer, packed, redirect

LOOPBACK = parse_networks(["127.0.0.0/8"])


def _fetch(url: str, allowed: tuple = LOOPBACK, seconds: float = 20) -> bytes:
    async def work() -> bytes:
        async with asyncio.timeout(seconds):
            return await WebFetcher(allowed).fetch(url)

    return asyncio.run(work())


def test_a_document_is_fetched_without_anything_that_was_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    with KeySite({"/keys?a=b": answer("yes", headers={"set-cookie": "a=b"})}) as site:
        for _ in range(2):
            assert _fetch(site.url("/keys?a=b")) == b"yes"
        for _, headers in site.asked:
            assert headers == {
                "host": f"127.0.0.1:{site.port}",
                "accept": "application/json, application/jwk-set+json, */*;q=0.1",
                "accept-encoding": "identity",
                "user-agent": "lateen",
            }
        assert _fetch(site.url("/keys?a=b", "localhost")) == b"yes"


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (answer("", 500), "status 500"),
        (answer("", 204), "status 204"),
        (answer("", 304), "status 304"),
        (answer("", 302), "status 302"),
        (packed("{}"), "compressed"),
        (answer(b"\x1f", headers={"content-encoding": "br"}), "compressed"),
        (answer(b" " * (MAX_BODY_BYTES + 1)), "larger than 1 MiB"),
        (key_site.endless, "larger than 1 MiB"),
        (key_site.cut, "cannot be read"),
        (key_site.nonsense, "cannot be read"),
        (redirect("/there", 301), "redirects"),
        (redirect("file:///etc/passwd"), "file"),
        (redirect("//me:pw@127.0.0.1/"), "password"),
        (redirect("http://10.0.0.1/keys"), "10.0.0.1 is a private address"),
        (redirect("http://169.254.169.254/latest"), "link-local"),
        (redirect("http://[::ffff:169.254.169.254]/latest"), "link-local"),
        (redirect("http://2852039166/latest"), "link-local"),
        (redirect("http://[::1]:1/"), "loopback"),
        (redirect("http://["), "no URL"),
    ],
)
def test_what_is_no_document_is_refused_with_the_reason(act: key_site.Act, reason: str) -> None:
    with KeySite({"/there": act}) as site, pytest.raises(FetchError, match=reason):
        _fetch(site.url("/there"))


def test_the_largest_document_and_the_last_redirect_are_taken() -> None:
    with KeySite({"/0": redirect("1"), "/1": redirect("/2", 308)}) as site:
        site.pages["/2"] = redirect(f"//127.0.0.1:{site.port}/3")
        site.pages["/3"] = answer(b" " * MAX_BODY_BYTES)
        assert len(_fetch(site.url("/0"))) == MAX_BODY_BYTES
        site.pages["/3"] = redirect("/4")
        with pytest.raises(FetchError, match="more than 3 redirects"):
            _fetch(site.url("/0"))
        assert site.times("/4") == 0


@pytest.mark.parametrize("act", [key_site.silent, key_site.dripping])
def test_a_site_that_keeps_one_waiting_is_left(act: key_site.Act) -> None:
    with KeySite({"/": act}) as site, pytest.raises(TimeoutError):
        _fetch(site.url("/"), seconds=0.3)


HOSTS = ["127.0.0.1", "localhost", "127.1", "0x7f000001", "2130706433", "0177.1", "[::ffff:127.0.0.1]", "0.0.0.0", "0"]


@pytest.mark.parametrize("host", HOSTS)
def test_nothing_is_sent_to_an_address_that_is_not_allowed(host: str) -> None:
    with KeySite({"/": answer("secret")}) as site:
        with pytest.raises(FetchError, match=r"address|resolved"):
            _fetch(site.url("/", host), ())
        assert site.asked == []


def test_it_is_the_address_that_was_judged_that_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that means a public address when it is judged, and this machine a moment later."""
    asked = []

    async def first_public(_: object, host: str, port: int, **__: object) -> list[tuple]:
        asked.append(host)
        address = "127.0.0.2" if len(asked) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", first_public)
    with KeySite({"/": answer("secret")}) as site:
        with pytest.raises(FetchError, match="cannot be reached"):
            _fetch(site.url("/", "rebound.example"), parse_networks(["127.0.0.2"]))
        assert (asked, site.asked) == (["rebound.example"], [])


def test_a_place_that_is_not_there_is_told() -> None:
    with pytest.raises(FetchError, match="cannot be resolved"):
        _fetch("http://" + "a" * 64 + ".example/")
    with pytest.raises(FetchError, match=r"cannot be resolved.*services of the mesh are not called by name"):
        _fetch("http://" + "a" * 64 + ".default.svc.cluster.local/")
    with pytest.raises(FetchError, match=f"127.0.0.1 cannot be reached: {os.strerror(errno.ECONNREFUSED)}"):
        _fetch(f"http://127.0.0.1:{free_port()}/")


def test_servers_are_verified_by_the_roots_of_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pem = Authority().issue("localhost")
    (tmp_path / "server.pem").write_bytes(pem.certificate + pem.key)
    (tmp_path / "roots.pem").write_bytes(pem.roots)
    with KeySite({"/": answer("yes")}, tmp_path / "server.pem") as site:
        with pytest.raises(FetchError, match=r"(?i)certificate"):
            _fetch(site.url("/", "localhost"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "roots.pem"))
        assert _fetch(site.url("/", "localhost")) == b"yes"
        with pytest.raises(FetchError, match=r"(?i)certificate"):
            _fetch(site.url("/"))
        site.pages["/"] = redirect(f"http://127.0.0.1:{site.port}/")
        with pytest.raises(FetchError, match="from https to http"):
            _fetch(site.url("/", "localhost"))
