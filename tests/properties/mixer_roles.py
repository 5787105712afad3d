"""ServiceRoles, their bindings and what a rule tells the adapter ``rbac``: the same ones for the same seed."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from typing import Any

from lateen.mesh.mixer.model import MixerRules
from lateen.mesh.mixer.resolve import resolve
from lateen.mixer.engine import Engine
from lateen.mixer.handlers import Handlers
from lateen.mixer.reach import Reach
from lateen.resources.decode import decode
from lateen.resources.documents import parse_documents
from lateen.resources.resource import Resource

MIXER, RBAC = "config.istio.io/v1alpha2", "rbac.istio.io/v1alpha1"
USERS = ("*", "cluster.local/ns/default/sa/a", "cluster.local/ns/shop/*", "*/sa/a", "*ab", "nobody")
SERVICES = ("*", "a", "x.example", "*.example", "x*")
METHODS = ("*", "GET", "P*", "*T")
PATHS = ("/a", "/a/*", "*b", "/*", "*")


def written(kind: str, name: str, spec: dict[str, Any], group: str = MIXER) -> Resource:
    """A resource, as if it stood in a file."""
    text = json.dumps({"apiVersion": group, "kind": kind, "metadata": {"name": name}, "spec": spec})
    resource, problems = decode(parse_documents(text.encode(), "roles.yaml")[0][0])
    assert resource is not None, problems
    return resource


def role_rules(seed: int) -> MixerRules:
    """One rule that asks ``rbac`` about everything, with some roles."""
    draw = random.Random(seed)

    def some(values: tuple[str, ...]) -> list[str]:
        return draw.sample(values, draw.randrange(1, 3))

    def rule() -> dict[str, Any]:
        found: dict[str, Any] = {"services": some(SERVICES)}
        found.update({draw.choice(("methods", "notMethods")): some(METHODS)} if draw.random() < 0.6 else {})
        found.update({draw.choice(("paths", "notPaths")): some(PATHS)} if draw.random() < 0.6 else {})
        return found

    def subject() -> dict[str, Any]:
        kind = draw.randrange(3)
        if kind == 0:
            return {"user": draw.choice(USERS)}
        if kind == 1:
            return {draw.choice(("names", "notNames")): some(USERS[1:])}
        return {"properties": {"source.namespace": draw.choice(("default", "shop", "s*"))}}

    either = draw.choice
    told = {
        "subject": {
            "user": either(('source.principal | ""', "source.user", 'source.user | "nobody"')),
            "properties": {"source.namespace": 'source.namespace | ""'} if draw.random() < 0.8 else {},
        },
        "action": {
            "namespace": '"default"',
            "service": either(('"a"', "request.host", '"x.example"')),
            "method": "request.method",
            "path": either(("request.path", 'request.url_path | ""')),
        },
    }
    resources = [
        written("handler", "roles", {"compiledAdapter": "rbac"}),
        written("instance", "who", {"compiledTemplate": "authorization", "params": told}),
        written("rule", "ask", {"actions": [{"handler": "roles", "instances": ["who"]}]}),
    ]
    for number in range(draw.randrange(1, 4)):
        rules, subjects = (
            [rule() for _ in range(draw.randrange(1, 3))],
            [subject() for _ in range(draw.randrange(1, 3))],
        )
        reference = {"kind": "ServiceRole", "name": f"r{number}"}
        resources += [
            written("ServiceRole", f"r{number}", {"rules": rules}, RBAC),
            written("ServiceRoleBinding", f"b{number}", {"subjects": subjects, "roleRef": reference}, RBAC),
        ]
    by_kind: dict[str, list[Resource]] = {}
    for one in resources:
        by_kind.setdefault(one.key.kind, []).append(one)
    rules, findings = resolve(by_kind, "default")
    assert findings == ()
    return rules


def verdict_of(rules: MixerRules) -> Callable[[Any], bool]:
    """Whether the mixer refuses what a bag tells."""

    async def refused(bag: Any) -> bool:
        handlers = Handlers(Reach().web)
        await handlers.follow(rules, fail_open=False)
        return (await Engine(rules, handlers.running).check(bag)).code != 0

    return lambda bag: asyncio.run(refused(bag))
