"""Requests made up from the texts of AuthorizationPolicies."""

from __future__ import annotations

import ipaddress
import random
import re
from collections.abc import Iterable
from typing import Any

SEED = 7


class Requests:
    """Requests made up from the texts of a case's policies."""

    def __init__(self, policies: Iterable[dict[str, Any]]) -> None:
        self._random = random.Random(SEED)
        self._texts: dict[str, list[str]] = {}
        for policy in policies:
            self._collect("", policy["spec"].get("rules"))

    def _collect(self, name: str, value: Any) -> None:
        if isinstance(value, dict):
            if "key" in value:
                texts = [*(value.get("values") or ()), *(value.get("notValues") or ())]
                self._texts.setdefault(value["key"], []).extend(texts)
                return
            for field, item in value.items():
                self._collect(field, item)
        elif isinstance(value, list):
            for item in value:
                if isinstance(item, str):
                    plain = name[3].lower() + name[4:] if name.startswith("not") else name
                    self._texts.setdefault(plain, []).append(item)
                else:
                    self._collect(name, item)

    def _pick(self, *names: str, other: str) -> str:
        """A text that one of these fields means, or nearly means, or another."""
        texts = [text for name in names for text in self._texts.get(name, ())]
        if not texts or self._random.random() < 0.15:
            return other
        text = self._random.choice(texts)
        text = text.replace("{**}", self._random.choice(("x/y", "x"))).replace("{*}", "x").replace("*", "x")
        return text + self._random.choice(("", "", "", "x"))

    def _address(self, *names: str, other: str) -> str:
        texts = [text for name in names for text in self._texts.get(name, ())]
        if not texts or self._random.random() < 0.2:
            return other
        return str(ipaddress.ip_network(self._random.choice(texts), strict=False)[0])

    def next(self) -> dict[str, Any]:
        principal = self._pick("principals", "source.principal", other="")
        account = self._pick("serviceAccounts", other="far/any").split("/")
        namespace = self._pick("namespaces", "source.namespace", other="any")
        domain = self._pick("trustDomains", "source.trustDomain", other="cluster.local")
        choices = (
            principal,
            f"{domain}/ns/{(['foo', *account])[-2]}/sa/{account[-1]}",
            f"{domain}/ns/{namespace}/sa/any",
            "",
        )
        identity = self._random.choice([choice for choice in choices[:3] if choice] + [""])
        headers = {"host": self._pick("hosts", other="other.example")}
        for key in self._texts:
            if key.startswith("request.headers[") and ":" not in key:
                headers[key.removeprefix("request.headers[").removesuffix("]")] = self._pick(key, other="none")
        return {
            "identity": f"spiffe://{identity}" if identity else "",
            "source": self._address("ipBlocks", "source.ip", other="127.0.0.1"),
            "remote": self._address("remoteIpBlocks", "remote.ip", other="8.8.8.8"),
            "address": self._address("destination.ip", other="8.8.4.4"),
            "port": int(re.sub(r"\D", "", self._pick("ports", "destination.port", other="1"))[:4] or 1),
            "server_name": self._pick("connection.sni", other="other.example"),
            "method": re.sub(r"[^A-Za-z]", "", self._pick("methods", "request.headers[:method]", other="GET")) or "GET",
            "path": self._pick("paths", other="/other"),
            "headers": headers,
            "claims": self._claims() if self._random.random() < 0.8 else None,
        }

    def _claims(self) -> dict[str, Any]:
        who = self._pick("requestPrincipals", "request.auth.principal", other="any/any")
        issuer, _, subject = who.rpartition("/")
        claims: dict[str, Any] = {"iss": issuer or "any", "sub": subject}
        claims["aud"] = self._pick("request.auth.audiences", other="any")
        claims["azp"] = self._pick("request.auth.presenter", other="any")
        for key in self._texts:
            if key.startswith("request.auth.claims["):
                *above, last = key.removeprefix("request.auth.claims[").removesuffix("]").split("][")
                place = claims
                for name in above:
                    place = place.setdefault(name, {})
                value: Any = self._pick(key, other="none")
                place[last] = [value, "more"] if self._random.random() < 0.5 and last != "iss" else value
        return claims
