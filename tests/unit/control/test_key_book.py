"""Keys are fetched once for all who ask, read again, kept while their source is away, and told where there are none."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from lateen.control.key_book import KEPT_S, KeyBook
from lateen.mesh.token_keys import DISCOVERY, KeySource, KeyUse, key_uses
from lateen.resources.decode import decode
from lateen.resources.documents import parse_documents
from lateen.resources.key_set import read_key_set
from lateen.sources.web import WebFetcher
from lateen.values.names import Origin
from lateen.values.web_address import parse_networks
from tests.envoy import key_site
from tests.envoy.key_site import KeySite, answer, packed, redirect
from tests.envoy.token_support import Issuer

PATIENCE_S = 30
ORIGIN = Origin("RequestAuthentication", "default", "tokens", "mesh.yaml", 7, "spec.jwtRules[0].jwksUri")
FIRST, SECOND = Issuer("i"), Issuer("i")


class Book:
    """A running book, and how often it told of other keys."""

    def __init__(self, folder: Path, refresh: float, allowed: str) -> None:
        self.changes = 0
        self.book = KeyBook(folder, WebFetcher(parse_networks([allowed])), refresh, self._changed)

    def _changed(self) -> None:
        self.changes += 1

    async def use(self, *uris: str, seconds: float = 5.0, issuer: str = "") -> tuple[KeyUse, ...]:
        uses = tuple(KeyUse(KeySource(uri, issuer), seconds, ORIGIN) for uri in uris)
        await self.book.follow(uses)
        return uses

    def codes(self, uses: tuple[KeyUse, ...]) -> list[str]:
        return [finding.code for finding in self.book.findings(uses)]

    async def until(self, holds: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not holds():  # noqa: ASYNC110 - another task changes it
                await asyncio.sleep(0.01)


@asynccontextmanager
async def running(folder: Path, refresh: float = 600, allowed: str = "127.0.0.0/8") -> AsyncIterator[Book]:
    book = Book(folder, refresh, allowed)
    try:
        yield book
    finally:
        await book.book.stop()


def _run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def test_several_rules_share_one_fetch_and_sources_that_nobody_uses_are_left(tmp_path: Path) -> None:
    async def work() -> None:
        with KeySite({"/a": answer(FIRST.jwks), "/b": answer(SECOND.jwks)}) as site:
            async with running(tmp_path / "jwks") as book:
                a, b = site.url("/a"), site.url("/b")
                uses = await book.use(a, a, b)
                assert book.book.keys == {
                    KeySource(a): read_key_set(FIRST.jwks).text,
                    KeySource(b): read_key_set(SECOND.jwks).text,
                }
                assert (site.times("/a"), book.changes, book.codes(uses)) == (1, 2, [])
                files = list((tmp_path / "jwks").iterdir())
                assert [oct(file.stat().st_mode & 0o777) for file in files] == ["0o600"] * 2
                await book.use(b)
                assert list(book.book.keys) == [KeySource(b)]
                assert len(list((tmp_path / "jwks").iterdir())) == 1

    _run(work())


def test_keys_are_read_again_and_the_last_good_ones_go_on_while_they_cannot_be(tmp_path: Path) -> None:
    async def work() -> None:
        with KeySite({"/": answer(FIRST.jwks)}) as site:
            async with running(tmp_path, refresh=0.05) as book:
                uses = await book.use(site.url("/"))
                source = uses[0].source
                site.pages["/"] = answer("", 500)
                await book.until(lambda: book.codes(uses) == ["keys-not-refreshed"])
                assert book.book.keys[source] == read_key_set(FIRST.jwks).text
                (finding,) = book.book.findings(uses)
                assert (finding.origin, finding.severity.value) == (ORIGIN, "warning")
                assert "status 500" in finding.message
                site.pages["/"] = answer(SECOND.jwks)
                await book.until(lambda: not book.codes(uses))
                assert book.book.keys[source] == read_key_set(SECOND.jwks).text
                assert book.changes == 2

    _run(work())


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (answer("", 500), "status 500"),
        (answer(""), "not JSON"),
        (answer("<html>sign in</html>"), "not JSON"),
        (answer("{}"), "keys"),
        (answer('{"keys": []}'), "no key"),
        (answer('{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}'), "symmetric"),
        (answer(FIRST.key), "keys"),
        (answer("[" * 500_000), "not JSON"),
        (packed(FIRST.jwks), "compressed"),
        (key_site.silent, "within 0.5 s"),
        (key_site.dripping, "within 0.5 s"),
        (key_site.endless, "larger"),
        (redirect("/"), "redirects"),
        (redirect("http://169.254.169.254/"), "link-local"),
    ],
)
def test_what_holds_no_keys_is_told_with_the_reason_and_the_place(
    tmp_path: Path, act: key_site.Act, reason: str
) -> None:
    async def work() -> None:
        with KeySite({"/": act, "/good": answer(FIRST.jwks)}) as site:
            async with running(tmp_path) as book:
                uses = await book.use(site.url("/"), site.url("/good"), seconds=0.5)
                await book.until(lambda: book.codes(uses))
                (finding,) = book.book.findings(uses)
                assert (finding.code, finding.origin, finding.is_error) == ("keys-not-fetched", ORIGIN, True)
                assert reason in finding.message
                assert list(book.book.keys) == [KeySource(site.url("/good"))]
                assert len(list(tmp_path.iterdir())) == 1
                site.pages["/"] = answer(SECOND.jwks)
                await book.until(lambda: not book.codes(uses))

    _run(work())


def test_addresses_that_are_not_allowed_are_not_called(tmp_path: Path) -> None:
    async def work() -> None:
        with KeySite({"/": answer(FIRST.jwks)}) as site:
            async with running(tmp_path, allowed="127.0.0.2") as book:
                uses = await book.use(site.url("/"))
                (finding,) = book.book.findings(uses)
                assert "loopback" in finding.message
                assert "mesh.jwks.allow" in finding.message
                assert site.asked == []

    _run(work())


def test_an_issuer_says_where_its_keys_are(tmp_path: Path) -> None:
    async def work() -> None:
        with KeySite({"/keys": answer(FIRST.jwks)}) as site:
            site.pages[f"/realm{DISCOVERY}"] = site.describe(site.url("/keys"), path="/realm")
            site.pages[f"/liar{DISCOVERY}"] = site.describe(site.url("/keys"), path="/realm")
            site.pages[f"/far{DISCOVERY}"] = site.describe("http://10.0.0.1/keys", path="/far")
            site.pages[f"/odd{DISCOVERY}"] = site.describe("file:///etc/passwd", path="/odd")
            site.pages[f"/bare{DISCOVERY}"] = answer(json.dumps({"issuer": site.url("/bare")}))
            async with running(tmp_path) as book:
                for path, reason in {
                    "/realm": "",
                    "/liar": "another issuer",
                    "/far": "a private address",
                    "/odd": "http or https",
                    "/bare": "no jwks_uri",
                    "/none": "status 404",
                }.items():
                    issuer = site.url(path)
                    uses = await book.use(issuer + DISCOVERY, issuer=issuer)
                    found = [finding.message for finding in book.book.findings(uses)]
                    assert (reason in found[0]) if reason else not found, path
                    assert bool(book.book.keys) == (not reason)

    _run(work())


def test_keys_that_are_left_out_are_told(tmp_path: Path) -> None:
    async def work() -> None:
        keys = json.dumps({"keys": [{"kty": "oct", "k": "c2VjcmV0"}, FIRST.members]})
        with KeySite({"/": answer(keys)}) as site:
            async with running(tmp_path) as book:
                uses = await book.use(site.url("/"))
                assert book.codes(uses) == ["unused-key"]
                assert book.book.keys == {uses[0].source: read_key_set(FIRST.jwks).text}

    _run(work())


def test_keys_outlive_the_control_plane_for_a_day(tmp_path: Path) -> None:
    async def work() -> None:
        with KeySite({"/": answer(FIRST.jwks)}) as site:
            async with running(tmp_path) as book:
                await book.use(site.url("/"))
            site.pages["/"] = answer("", 500)
            async with running(tmp_path) as book:
                uses = await book.use(site.url("/"))
                assert book.book.keys == {uses[0].source: read_key_set(FIRST.jwks).text}
                await book.until(lambda: book.codes(uses) == ["keys-not-refreshed"])
            (file,) = tmp_path.iterdir()
            for change in (
                {"fetched": time.time() - KEPT_S - 1},
                {"fetched": time.time() + 3600},
                {"uri": "x"},
                {"keys": "{}"},
            ):
                kept = json.loads(file.read_bytes())
                file.write_text(json.dumps({**kept, **change}))
                async with running(tmp_path) as book:
                    uses = await book.use(site.url("/"))
                    assert book.book.keys == {}
                    assert book.codes(uses) == ["keys-not-fetched"]
                file.write_text(json.dumps(kept))

    _run(work())


def test_one_source_that_hangs_delays_another_only_once(tmp_path: Path) -> None:
    async def work() -> None:
        with KeySite({"/": key_site.silent, "/good": answer(FIRST.jwks)}) as site:
            async with running(tmp_path) as book:
                await book.use(site.url("/"), seconds=60)
                await book.use(site.url("/"), site.url("/good"), seconds=60)
                assert list(book.book.keys) == [KeySource(site.url("/good"))]

    _run(work())


def test_rules_name_their_sources() -> None:
    text = """
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: a, namespace: n}
spec:
  jwtRules:
  - {issuer: "https://a.example/", timeout: 2s}
  - {issuer: b, jwksUri: "https://b.example/keys"}
  - {issuer: c, jwks: '{"keys": []}'}
  - {jwksUri: "https://b.example/keys", timeout: 3600s}
"""
    documents, _ = parse_documents(text.encode(), "mesh.yaml")
    resource, _ = decode(documents[0], "default")
    assert resource is not None
    found = [
        (use.source.uri, use.source.issuer, use.timeout, use.origin.line, use.origin.field)
        for use in key_uses([resource])
    ]
    assert found == [
        ("https://a.example" + DISCOVERY, "https://a.example/", 2.0, 7, "spec.jwtRules[0].issuer"),
        ("https://b.example/keys", "", 5.0, 8, "spec.jwtRules[1].jwksUri"),
        ("https://b.example/keys", "", 60.0, 10, "spec.jwtRules[3].jwksUri"),
    ]
