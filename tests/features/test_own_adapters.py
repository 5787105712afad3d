"""Adapters of your own: the example of the how-to at work, and what others feel when one crashes or hangs."""

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.features.mixer_support import NOTHING, TO_ECHO, documents, resource, rule, statuses
from tests.features.running import ROOT, running_mesh, until
from tests.features.test_mixer_failures import OPEN

pytestmark = [pytest.mark.mesh, pytest.mark.xdist_group("own-adapters"), pytest.mark.timeout(240)]
EXAMPLE = ROOT / "examples" / "adapter"
NAUGHTY = """
import asyncio, os, time
from lateen.mixer.adapter import UNAUTHENTICATED, CheckAdapter, CheckResult, DirectAnswer, PERMISSION_DENIED

class Naughty(CheckAdapter):
    templates = frozenset({"listentry"})

    async def check(self, instance):
        if instance.value == "die":
            os._exit(3)
        if instance.value == "hang":
            while True:
                pass
        if instance.value == "raise":
            raise ValueError("not today")
        if instance.value == "garbage":
            return "yes"
        if instance.value == "print":
            print("words that are no answer", flush=True)
        if instance.value == "login":
            return CheckResult(UNAUTHENTICATED, "who?", answer=DirectAnswer(302, "in", {"Location": "/login"}))
        if instance.value == "done":
            return CheckResult(answer=DirectAnswer(202, "{}", {"content-type": "application/json"}))
        if instance.value == "odd":
            return CheckResult(answer=DirectAnswer(99))
        code = PERMISSION_DENIED if instance.value == "deny" else 0
        return CheckResult(code, "no", 0.0)

class Unfit(CheckAdapter):
    templates = frozenset({"nonsense"})

    async def check(self, instance):
        return CheckResult()
"""


def install(folder: Path, module: Path, points: dict[str, str]) -> None:
    """What ``pip install`` of a package leaves in ``folder``."""
    (folder / module.name).write_text(module.read_text())
    info = folder / f"{module.stem}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module.stem}\nVersion: 1\n")
    lines = "".join(f"{name} = {module.stem}:{value}\n" for name, value in points.items())
    (info / "entry_points.txt").write_text(f"[lateen.adapters]\n{lines}")


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    install(folder, EXAMPLE / "blocked_callers.py", {"blocked": "Blocked", "tally": "Tally"})
    naughty = tmp_path_factory.mktemp("naughty") / "naughty.py"
    naughty.write_text(NAUGHTY)
    install(folder, naughty, {"naughty": "Naughty", "unfit": "Unfit", "away": "NotThere"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))
        with running_mesh("loopback") as mesh:
            yield mesh


def test_the_example_decides_and_counts(own, tmp_path):
    database, counts = tmp_path / "blocked.db", tmp_path / "counts.json"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE blocked (name TEXT, why TEXT)")
        connection.execute("INSERT INTO blocked VALUES ('mallory', 'too loud')")
        connection.commit()
    params = {"database": str(database), "goodFor": 0.0}
    texts = documents(
        resource("handler", "callers", {"compiledAdapter": "blocked", "params": params}),
        resource("handler", "counts", {"compiledAdapter": "tally", "params": {"file": str(counts)}}),
        resource(
            "instance", "who", {"compiledTemplate": "listentry", "params": {"value": 'request.headers["x-user"] | ""'}}
        ),
        resource(
            "instance",
            "answered",
            {"compiledTemplate": "metric", "params": {"value": "1", "dimensions": {"code": "response.code | 0"}}},
        ),
        rule(TO_ECHO, ("callers", "who"), ("counts", "answered")),
    )
    with own.applied(texts):
        until(lambda: statuses(own, {"x-user": "mallory"}) == {403}, "the rule is in force")
        assert statuses(own, {"x-user": "alice"}) == {200}
        assert own.fetch("http://echo:8000/echo", headers={"x-user": "mallory"}).body.endswith(
            b"callers.default:too loud"
        )
        until(lambda: counts.exists() and set(json.loads(counts.read_text())) >= {"200", "403"}, "both are counted")


def test_one_that_crashes_or_hangs_harms_nobody_else(own):
    naughty = resource("handler", "naughty", {"compiledAdapter": "naughty"})
    value = 'request.headers["x-do"] | ""'
    what = resource("instance", "what", {"compiledTemplate": "listentry", "params": {"value": value}})
    denier = resource("handler", "deny", {"compiledAdapter": "denier", "params": {"status": {"code": 16}}})
    ordered = rule(f'{TO_ECHO} && request.path.startsWith("/naughty")', ("naughty", "what"), name="naughty")
    other = rule(f'{TO_ECHO} && request.path == "/closed" && request.size >= 0', ("deny", "nothing"), name="closed")

    def status(order):
        return own.fetch("http://echo:8000/naughty", headers={"x-do": order}).status

    with own.applied(documents(naughty, what, denier, NOTHING, ordered, other)):
        until(lambda: status("deny") == 403, "the rule is in force")
        assert status("print") == 200
        for _ in range(3):
            answer = own.fetch("http://echo:8000/naughty", headers={"x-do": "login"})
            assert (answer.status, answer.headers["location"], answer.body) == (302, "/login", b"in")
            answer = own.fetch("http://echo:8000/naughty", headers={"x-do": "done"})
            assert (answer.status, answer.headers["content-type"], answer.body) == (202, "application/json", b"{}")
        assert status("odd") == 500
        for order, refusal in (("raise", {500}), ("garbage", {503}), ("die", {503}), ("hang", {503, 504})):
            assert status(order) in refusal
            assert own.fetch("http://echo:8000/other").status == 200
            assert own.fetch("http://echo:8000/closed").status in (200, 401)
            until(lambda: status("deny") == 403, f"it is at work again after {order}")
        assert own.record["processes"]["mixer"]["pid"]
    with own.applied(documents(naughty, what, ordered) + OPEN):
        until(lambda: status("deny") == 403, "the rule is in force")
        for order in ("raise", "garbage", "odd", "die", "hang"):
            assert status(order) == 200, "open, as configured"
    log = (own.run_dir / "mixer.log").read_text()
    assert "not today" in log
    assert "Traceback" not in log


def test_what_cannot_be_used_is_told(own):
    def told():
        return {f["code"]: f["text"] for f in own.control("/v1/findings")["findings"]}

    unusable = [f["text"] for f in own.control("/v1/findings")["findings"] if f["code"] == "unusable-adapter"]
    assert any("unfit" in text and "templates of Unfit" in text for text in unusable)
    assert any("away" in text and "NotThere" in text for text in unusable)
    wrong = documents(
        resource("handler", "callers", {"compiledAdapter": "blocked", "params": {"databse": "/a"}}),
        resource("handler", "nobody", {"compiledAdapter": "no-such"}),
        resource("handler", "without", {"compiledAdapter": "blocked"}),
    )
    with own.applied(wrong):
        text = json.dumps(own.control("/v1/findings"))
    assert "databse" in text
    assert "there is no adapter no-such" in text
    assert "blocked needs database" in text
