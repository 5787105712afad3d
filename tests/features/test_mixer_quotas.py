"""What rules of Mixer count before requests go on, over all proxies of a running mesh; and how refusals are told."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.features.mixer_support import ECHO, NOTHING, TO_ECHO, documents, in_use as in_use, resource, rule, statuses
from tests.features.running import until
from tests.redis_support import redis_server

pytestmark = [pytest.mark.mesh, pytest.mark.xdist_group("mixer"), pytest.mark.timeout(240)]


BY_PROXY = {"lateen.io/counted-by": "proxy"}


def quota(adapter, params, clause=None, charge=None, **annotations):
    """A quota ``used`` that requests to echo are charged to, for each value of the header x-who."""
    match = [{"clause": clause}] if clause else []
    quotas = [{"quota": "used", **({"charge": charge} if charge is not None else {})}]
    dimensions = {"who": 'request.headers["x-who"] | "nobody"'}
    return (
        resource("handler", "counter", {"compiledAdapter": adapter, "params": params}, **annotations),
        resource("instance", "used", {"compiledTemplate": "quota", "params": {"dimensions": dimensions}}),
        rule(TO_ECHO, ("counter", "used"), name="counted"),
        resource("QuotaSpec", "charged", {"rules": [{"match": match, "quotas": quotas}]}),
        resource("QuotaSpecBinding", "bound", {"services": [{"name": "echo"}], "quotaSpecs": [{"name": "charged"}]}),
    )


def granted(mesh, who, path="/echo", count=12):
    """The statuses of some requests to both versions of echo, in order."""
    return [mesh.get(path, headers={"x-who": who}).status for _ in range(count)]


def test_what_all_proxies_use_is_counted_together(mesh):
    limits = {
        "name": "used",
        "maxAmount": 5,
        "validDuration": "3600s",
        "overrides": [{"dimensions": {"who": "rich"}, "maxAmount": 9}],
    }
    texts = quota("memquota", {"quotas": [limits]}, {"request.path": {"prefix": "/echo"}})
    with mesh.applied(documents(*texts)):
        until(lambda: mesh.get("/echo", headers={"x-who": "first"}).status == 429 or None, "the quota is in force")
        assert granted(mesh, "poor") == [200] * 5 + [429] * 7
        assert granted(mesh, "rich") == [200] * 9 + [429] * 3
        with ThreadPoolExecutor(8) as pool:
            at_once = [
                status for found in pool.map(lambda _: granted(mesh, "many", count=4), range(8)) for status in found
            ]
        assert sorted(at_once) == [200] * 5 + [429] * 27
        refused = mesh.get("/echo", headers={"x-who": "poor"})
        assert refused.body == b"RESOURCE_EXHAUSTED:Quota is exhausted for: used"
        assert granted(mesh, "poor", "/other") == [200] * 12
        pods = {mesh.get("/other").json()["pod"] for _ in range(10)}
        assert len(pods) == 2
    assert granted(mesh, "poor") == [200] * 12


def test_a_charge_is_more_than_one_and_comes_back(mesh):
    limits = {"name": "used.default", "maxAmount": 4, "validDuration": "2s"}
    texts = quota("memquota", {"quotas": [limits]}, charge=2)
    with mesh.applied(documents(*texts)):
        until(lambda: 429 in granted(mesh, "first", count=3), "the quota is in force")
        until(lambda: granted(mesh, "second", count=3) == [200, 200, 429], "two charges of two are granted")
        until(lambda: granted(mesh, "second", count=1) == [200], "it comes back")


def test_each_proxy_counts_by_itself_where_the_handler_says_so(mesh):
    """The mixer, which is asked by another rule, charges nothing then; and all of it once it counts again."""
    limits = {"name": "used", "maxAmount": 5, "validDuration": "3600s"}
    asking = (
        resource("handler", "listed", {"compiledAdapter": "listchecker", "params": {"overrides": ["a"]}}),
        resource(
            "instance", "value", {"compiledTemplate": "listentry", "params": {"value": 'request.headers["x-l"]|"a"'}}
        ),
        rule(f"{TO_ECHO} && size(request.path) > 1", ("listed", "value"), name="asked"),
    )

    def written(**annotations):
        counted = quota("memquota", {"quotas": [limits]}, {"request.path": {"prefix": "/e"}}, **annotations)
        return documents(*asking, *counted)

    with mesh.applied(written(**BY_PROXY)):
        until(lambda: granted(mesh, "first", count=40)[-3:] == [429] * 3 or None, "the quota is in force")
        assert sorted(granted(mesh, "poor", count=40)) == [200] * 10 + [429] * 30
        assert granted(mesh, "poor", "/other") == [200] * 12
        words = b"RESOURCE_EXHAUSTED:Quota is exhausted for: used"
        until(lambda: mesh.get("/echo", headers={"x-who": "poor"}).body == words, "connections know the words")
        assert mesh.get("/echo", headers={"x-who": "new", "x-l": "b"}).status == 403, "the mixer is asked all the same"
        said = mesh.lateen("mixer", "explain", "echo-v1").stdout
        assert "echo-v1:8000: in the proxy, because each proxy counts by itself, as the handler says" in said
        told = "limit mixer:counted.default/used.default"
        said = mesh.lateen("explain", "client", f"{ECHO}/echo", "-H", "x-who: poor").stdout
        assert f"{told} counts it: 5 in 3600 s for each header x-who, by this proxy alone" in said
        until(lambda: f"{told} refuses it: " in mesh.lateen("logs", "echo", "--access").stdout, "the log tells")
        mesh.write("extra.yaml", written())
        mesh.settled()
        assert granted(mesh, "many") == [200] * 5 + [429] * 7


@pytest.mark.parametrize("algorithm", ["FIXED_WINDOW", "ROLLING_WINDOW"])
def test_quotas_are_counted_in_a_redis(mesh, algorithm):
    with redis_server() as redis:
        limits = {"name": "used", "maxAmount": 5, "validDuration": "3600s", "rateLimitAlgorithm": algorithm}
        if algorithm == "ROLLING_WINDOW":
            limits["bucketDuration"] = "60s"
        texts = quota("redisquota", {"quotas": [limits], "redisServerUrl": redis.url})
        with mesh.applied(documents(*texts)):
            until(lambda: 429 in granted(mesh, "first", count=6), "the quota is in force")
            assert granted(mesh, "poor", count=8) == [200] * 5 + [429] * 3
            redis.stop()
            until(lambda: granted(mesh, "anybody", count=2) == [503, 503], "nobody knows what is left")
            redis.start()
            until(lambda: 200 in granted(mesh, "anybody", count=2), "it is asked again")
    mesh.settled()


def test_quotas_that_count_nothing_are_told(mesh):
    handler, instance, counting, spec, binding = quota("memquota", {"quotas": [{"name": "other", "maxAmount": 5}]})
    texts = [handler, instance, counting, spec.replace('"quota": "used"', '"quota": "unused"'), binding]
    with mesh.applied(documents(*texts)):
        codes = {finding["code"] for finding in mesh.control("/v1/findings")["findings"]}
    assert {"unknown-quota", "no-limit", "uncharged-quota"} <= codes


def test_every_refusal_is_told_with_its_rule_and_line(mesh):
    """By the proxy itself, by the mixer, by an answer of the mixer that the proxy kept."""
    texts = documents(
        resource("handler", "deny", {"compiledAdapter": "denier", "params": {"status": {"code": 7}}}),
        resource("handler", "listed", {"compiledAdapter": "listchecker", "params": {"overrides": ["a"]}}),
        NOTHING,
        resource("instance", "value", {"compiledTemplate": "listentry", "params": {"value": 'request.headers["x-l"]'}}),
        rule(f'{TO_ECHO} && request.path == "/here"', ("deny", "nothing"), name="here"),
        rule(
            f'{TO_ECHO} && request.path == "/there" && size(request.headers["x-l"]) > 0',
            ("listed", "value"),
            name="there",
        ),
    )

    def told(path, wanted):
        def found():
            lines = mesh.lateen("logs", "echo", "--access").stdout.splitlines()
            entries = [json.loads(line[line.index("{") :]) for line in lines if "{" in line]
            return any(entry.get("path") == path and wanted in str(entry.get("denied_because")) for entry in entries)

        until(found, f"the access log tells: {wanted}")

    with mesh.applied(texts):
        assert statuses(mesh, path="/here") == {403}
        assert statuses(mesh, {"x-l": "b"}, path="/there", count=12) == {403}
        place = f"{mesh.project}/extra.yaml"
        here, there = (_line_of(texts, name) for name in ("here", "there"))
        told("/here", f"403 'PERMISSION_DENIED:deny.default:' (rule default/here ({place}:{here}))")
        told("/there", f"rule default/there of Mixer denies it (rule default/there ({place}:{there}))")
        said = mesh.lateen("explain", "client", f"{ECHO}/here", check=False).stdout
        assert "rule default/here of Mixer denies it: 403" in said
        said = mesh.lateen("explain", "client", f"{ECHO}/there", "-H", "x-l: b").stdout
        assert "the mixer is asked, by rule default/there of Mixer, and has to agree" in said
        assert "the mixer is asked" not in mesh.lateen("explain", "client", f"{ECHO}/echo").stdout


def _line_of(text, name):
    """The line in which the resource of this name begins."""
    lines = text[: text.index(f"{{name: {name}}}")].splitlines()
    return len(lines) - 2
