"""AuthorizationPolicies and requests made up by a seeded generator, for one gateway that answers by itself.

The values are few, so that rules and requests meet each other often, and hold what has gone wrong in meshes: spellings
of paths, hosts in any case with ports and dots, signs of patterns in every text, values that are lists or joined.
"""

from __future__ import annotations

import random
from typing import Any, NamedTuple

ACCOUNTS = ("default/sa/ann", "default/sa/a.b", "far/sa/ann", "default/sa/axb", "default/sa/[a]+")
DOMAINS = ("cluster.local", "old.example", "clusterxlocal")
SOURCES = ("127.0.0.1", "127.0.0.2", "127.0.7.1")
FORWARDED = ("", "10.1.2.3", "10.9.9.9, 10.1.2.3", "10.1.2.3, 10.9.9.9", "2001:db8::1", "nonsense", "10.1.2.3:80")
HOSTS = (
    "a.example",
    "A.Example",
    "a.example:80",
    "a.example.",
    "a.example.:8080",
    "axexample",
    "b.a.example",
    "a.exampl",
)
METHODS = ("GET", "POST", "DELETE", "get")
PATHS = (
    "/", "/a", "/A", "/a/", "/a/b", "/a/b/c", "/ab", "/b", "//a", "/a//b", "/a/./b", "/a/../b", "/./a", "/x/../a",
    "/..", "/a%2Fb", "/a%2fb", "/a%5Cb", "/a\\b", "/%61", "/a;p", "/a;p=1/b", "/a%3Bp", "/%2e%2e/a", "/b/%2E%2E/a",
    "/a%", "/a%zz", "/a?q", "/a?q=/b", "/a/b?x=1", "/a%3Fq", "/a%23b", "/a*", "/*", "/a.b", "/axb", "/a|b", "/a+b",
    "/a/b/", "/a/%2e/b", "/%2Fa", "/a%00b", "/[a]", "/a/*/c", "/a/{b}", "/deep/x/y/z", "/a%252Fb", "/a/..;/b",
    "/a\\..;/b", "/a/..;",
    "/a/..%3B/b", "/a/.%2e;/b", "/a/.;x=1;y/b", "/x/%2e%2e;/b", "/a\xe4",
)  # fmt: skip
HEADER_VALUES = ("", "x", "X", "xy", "yx", "x.y", "x,y", "x, z", "x\xff", "\xe4", "x*", ".*")
CLAIM_VALUES: tuple[Any, ...] = ("a", "b", "a b", ["a", "b"], ["ab"], "a*", 7, True, None, {"b": "a"}, "a.b")
HEADER_NAMES = ("x-user", "x-group")
TOKENED = ("https://a.example/a", "https://a.example/a.b", "a.example/a")
NAMES = ("a.example", "b.example", "")


class Asked(NamedTuple):
    """One request, or, where ``is_bytes``, a connection of plain bytes."""

    port: int
    is_bytes: bool
    identity: str
    source: str
    server_name: str
    method: str
    host: str
    path: str
    headers: tuple[tuple[str, str], ...]
    claims: dict[str, Any] | None


class Cases:
    """Policies and requests of one seed."""

    def __init__(self, seed: int, http: tuple[int, int], bytes_: tuple[int, int]) -> None:
        """``http`` and ``bytes_``: the ports without and with mutual TLS."""
        self._random = random.Random(seed)
        self._http, self._bytes = http, bytes_
        self._ports = (*http, *bytes_)

    def _some(self, values: tuple[Any, ...], most: int = 2) -> list[Any]:
        return self._random.sample(values, self._random.randint(1, min(most, len(values))))

    def _chance(self, of: float) -> bool:
        return self._random.random() < of

    def _patterns(self, values: tuple[str, ...]) -> list[str]:
        """Texts in the policies' small syntax, which mean or nearly mean some of the values."""
        found = []
        for value in self._some(tuple(value for value in values if value)):
            cut = self._random.randint(0, len(value))
            found.append(self._random.choice((value, value, f"{value[:cut]}*", f"*{value[cut:]}", "*")))
        return found

    # --- policies ----------------------------------------------------------------------------------------------------

    def policies(self) -> list[dict[str, Any]]:
        return [self._policy(index) for index in range(self._random.randint(1, 3))]

    def _policy(self, index: int) -> dict[str, Any]:
        action = self._random.choice(("ALLOW", "ALLOW", "DENY", "DENY", "AUDIT"))
        rules = [self._rule() for _ in range(self._random.randint(0 if action != "DENY" else 1, 3))]
        annotations = {"istio.io/dry-run": "true"} if action != "AUDIT" and self._chance(0.1) else {}
        return {
            "apiVersion": "security.istio.io/v1",
            "kind": "AuthorizationPolicy",
            "metadata": {"name": f"p{index}", "namespace": "edge", "annotations": annotations},
            "spec": {"action": action, "rules": rules},
        }

    def _rule(self) -> dict[str, Any]:
        rule: dict[str, Any] = {}
        if self._chance(0.5):
            rule["from"] = [{"source": self._source()} for _ in range(self._random.randint(1, 2))]
        if self._chance(0.7):
            rule["to"] = [{"operation": self._operation()} for _ in range(self._random.randint(1, 2))]
        if self._chance(0.4):
            rule["when"] = [self._when() for _ in range(self._random.randint(1, 2))]
        return rule

    def _fields(self, choices: dict[str, Any]) -> dict[str, Any]:
        found = {}
        for name in self._some(tuple(choices), 2):
            positive = self._chance(0.7)
            written = name if positive else f"not{name[0].upper()}{name[1:]}"
            found[written] = choices[name]()
        return found

    def _source(self) -> dict[str, Any]:
        principals = tuple(f"{domain}/ns/{account}" for domain in DOMAINS for account in ACCOUNTS)
        choices = {
            "principals": lambda: self._patterns(principals),
            "requestPrincipals": lambda: self._patterns(
                ("https://a.example/a", "https://a.example/a.b", "a.example/a")
            ),
            "namespaces": lambda: self._some(("default", "far", "d*", "*", "*ault", "de*lt", "f.r")),
            "ipBlocks": lambda: self._some(("127.0.0.1", "127.0.0.0/29", "127.0.7.0/24", "10.0.0.0/8")),
            "remoteIpBlocks": lambda: self._some(("10.1.2.3", "10.0.0.0/8", "127.0.0.0/8", "2001:db8::/32")),
            "trustDomains": lambda: self._some((*DOMAINS, "cluster*", "*local", "*")),
        }
        if self._chance(0.15):
            return {"serviceAccounts": self._some(("default/ann", "far/ann", "ann", "default/a.b"))}
        return self._fields(choices)

    def _operation(self) -> dict[str, Any]:
        ports = tuple(map(str, (*self._ports, 1)))
        templates = ("/a/{*}", "/{*}/b", "/{**}", "/a/{**}", "/a/{*}/c", "/{*}", "/deep/{*}/y/{**}")
        return self._fields(
            {
                "hosts": lambda: self._patterns(HOSTS),
                "methods": lambda: self._patterns(METHODS),
                "paths": lambda: self._some(templates) if self._chance(0.3) else self._patterns(_written(PATHS)),
                "ports": lambda: self._some(ports),
            }
        )

    def _when(self) -> dict[str, Any]:
        principals = tuple(f"{domain}/ns/{account}" for domain in DOMAINS for account in ACCOUNTS)
        choices: dict[str, Any] = {
            "request.headers[X-User]": lambda: self._patterns(_written(HEADER_VALUES)),
            "request.headers[x-group]": lambda: self._patterns(_written(HEADER_VALUES)),
            "request.headers[:method]": lambda: self._patterns(METHODS),
            "request.headers[Host]": lambda: self._patterns(HOSTS),
            "request.headers[:authority]": lambda: self._patterns(HOSTS),
            "request.headers[:path]": lambda: self._patterns(_written(PATHS)),
            "request.headers[x user]": lambda: self._patterns(_written(HEADER_VALUES)),
            "request.headers[x-user\n]": lambda: self._patterns(_written(HEADER_VALUES)),
            "source.ip": lambda: self._some(("127.0.0.2", "127.0.0.0/30")),
            "remote.ip": lambda: self._some(("10.1.2.3", "127.0.0.1")),
            "source.namespace": lambda: self._some(("default", "f*")),
            "source.principal": lambda: self._patterns(principals),
            "source.trustDomain": lambda: self._some(DOMAINS),
            "source.serviceAccount": lambda: self._some(("default/ann", "far/ann")),
            "request.auth.principal": lambda: self._patterns(TOKENED),
            "request.auth.audiences": lambda: self._patterns(("shop", "bar", "https://shop")),
            "request.auth.presenter": lambda: self._patterns(("a", "ab")),
            "request.auth.claims[group]": lambda: self._patterns(("a", "b", "a b", "ab", "a.b")),
            "request.auth.claims[scope]": lambda: self._patterns(("a", "b", "a b")),
            "request.auth.claims[nested][b]": lambda: self._patterns(("a", "b")),
            "destination.ip": lambda: self._some(("127.0.0.1", "10.0.0.1")),
            "destination.port": lambda: self._some(tuple(map(str, (*self._ports, 1)))),
            "connection.sni": lambda: self._patterns(("a.example", "b.example")),
        }
        key = self._random.choice(tuple(choices))
        when: dict[str, Any] = {"key": key}
        kind = self._random.choice(("values", "values", "notValues", "both"))
        for name in ("values", "notValues"):
            if kind in (name, "both"):
                when[name] = choices[key]()
        return when

    # --- requests ----------------------------------------------------------------------------------------------------

    def request(self) -> Asked:
        pick = self._random.choice
        identity = f"spiffe://{pick(DOMAINS[:2])}/ns/{pick(ACCOUNTS)}" if self._chance(0.6) else ""
        headers = [(name, pick(HEADER_VALUES)) for name in HEADER_NAMES for _ in range(pick((0, 0, 1, 1, 2)))]
        if forwarded := pick(FORWARDED):
            headers.append(("x-forwarded-for", forwarded))
        is_bytes = self._chance(0.15)
        return Asked(
            (self._bytes if is_bytes else self._http)[bool(identity)],
            is_bytes,
            identity,
            pick(SOURCES),
            pick(NAMES) if identity else "",
            pick(METHODS[:3]),
            pick(HOSTS),
            pick(PATHS),
            tuple(headers),
            self._claims() if self._chance(0.5) and not is_bytes else None,
        )

    def _claims(self) -> dict[str, Any]:
        pick = self._random.choice
        found: dict[str, Any] = {"iss": "https://a.example", "sub": pick(("a", "a.b", "axb", "x/a"))}
        found["aud"] = pick(("shop", ["bar", "shop"], "https://shop/", "other"))
        for name in ("group", "scope", "nested", "azp"):
            value = pick(CLAIM_VALUES)
            if value is not None:
                found[name] = value
        return found


def _written(values: tuple[str, ...]) -> tuple[str, ...]:
    """Those that can stand in a policy: plain text, and no template."""
    return tuple(value for value in values if value.isascii() and "{" not in value and "*" not in value.strip("*"))
