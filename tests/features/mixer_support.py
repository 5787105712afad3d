"""What tests of Mixer's rules on a running mesh share: how resources are written, and requests that they are about."""

import json

import pytest

ECHO = "http://echo:8000"
HEAD = "apiVersion: config.istio.io/v1alpha2\n"
TO_ECHO = 'destination.labels["app"] == "echo"'


def resource(kind, name, spec, **annotations):
    said = f", annotations: {json.dumps(annotations)}" if annotations else ""
    return f"{HEAD}kind: {kind}\nmetadata: {{name: {name}{said}}}\nspec: {json.dumps(spec)}\n"


def rule(match, *actions, name="rule", **more):
    return resource(
        "rule", name, {"match": match, "actions": [{"handler": h, "instances": [i]} for h, i in actions], **more}
    )


def documents(*texts):
    return "---\n".join(texts)


NOTHING = resource("instance", "nothing", {"compiledTemplate": "checknothing"})


@pytest.fixture(autouse=True, scope="module")
def in_use(mesh):
    """A rule that never matches: where a mesh has any, a new one holds for connections that are open, too."""
    texts = (
        resource("handler", "never", {"compiledAdapter": "denier"}),
        resource("instance", "nil", {"compiledTemplate": "checknothing"}),
        rule('request.path == "/never"', ("never", "nil"), name="never"),
    )
    mesh.write("in-use.yaml", documents(*texts))
    mesh.settled()


def statuses(mesh, headers=None, count=6, path="/echo"):
    return {mesh.fetch(f"{ECHO}{path}", headers=headers).status for _ in range(count)}
