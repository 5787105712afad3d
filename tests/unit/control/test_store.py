"""A wrong file changes nothing; what is right in it goes on."""

from lateen.control.store import ResourceStore
from lateen.sources.files import FileEvent

GOOD = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http: [{route: [{destination: {host: reviews}}], timeout: %s}]
"""
OTHER = GOOD.replace("name: reviews", "name: other")


def write(store, text, path="a.yaml"):
    store.apply(FileEvent(path, text.encode()))


def timeouts(store):
    return {resource.key.name: resource.spec.http[0].timeout for resource in store.resources()}


def test_a_wrong_edit_keeps_the_last_good_version_and_says_where():
    store = ResourceStore()
    write(store, GOOD % "1s")
    write(store, GOOD % "soon")
    assert timeouts(store) == {"reviews": 1.0}
    (finding,) = store.findings()
    assert finding.is_error
    assert (finding.origin.path, finding.origin.line) == ("a.yaml", 7)
    assert finding.origin.field == "spec.http[0].timeout"


def test_a_file_that_is_no_yaml_keeps_everything_it_said():
    store = ResourceStore()
    write(store, GOOD % "1s" + "---" + OTHER % "2s")
    write(store, "a: [")
    assert timeouts(store) == {"reviews": 1.0, "other": 2.0}
    assert [finding.code for finding in store.findings()] == ["invalid-yaml"]


def test_the_rest_of_a_file_with_one_wrong_document_is_taken():
    store = ResourceStore()
    write(store, GOOD % "1s" + "---" + OTHER % "2s")
    write(store, GOOD % "wrong" + "---" + OTHER % "5s")
    assert timeouts(store) == {"reviews": 1.0, "other": 5.0}


def test_mending_clears_the_finding():
    store = ResourceStore()
    write(store, GOOD % "soon")
    assert timeouts(store) == {}
    write(store, GOOD % "3s")
    assert timeouts(store) == {"reviews": 3.0}
    assert store.findings() == ()


def test_what_is_gone_from_a_file_or_with_it_is_gone():
    store = ResourceStore()
    write(store, GOOD % "1s" + "---" + OTHER % "2s")
    write(store, GOOD % "1s")
    assert timeouts(store) == {"reviews": 1.0}
    store.apply(FileEvent("a.yaml", None))
    assert timeouts(store) == {}


def test_a_resource_in_two_files_is_taken_from_the_first_and_told():
    store = ResourceStore()
    write(store, GOOD % "1s", "a.yaml")
    write(store, GOOD % "2s", "b.yaml")
    assert timeouts(store) == {"reviews": 1.0}
    assert [finding.origin.path for finding in store.findings()] == ["b.yaml"]


def test_a_field_that_is_not_done_yet_is_refused_and_not_ignored():
    store = ResourceStore()
    write(
        store,
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nspec: {}\nmetadata:\n"
        "  name: a\n  labels: {istio.io/rev: canary}\n",
    )
    assert store.resources() == ()
    (finding,) = [found for found in store.findings() if found.is_error]
    assert (finding.code, finding.origin.line) == ("unsupported-field", 6)
