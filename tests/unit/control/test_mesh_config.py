"""A MeshConfig is read from resources, from a file of its own and from lateen.yaml, and what it says holds."""

from lateen.control.coordinator import Coordinator
from lateen.control.store import ResourceStore
from lateen.settings import Settings
from lateen.sources.files import FileEvent


def settings_of(store, **given):
    coordinator = Coordinator(Settings(**given), lambda *_: None)
    coordinator.update(store.resources(), [])
    assert coordinator.snapshot is not None
    return coordinator.snapshot.settings, coordinator.findings


def test_a_section_of_the_project_is_the_mesh_configuration():
    store = ResourceStore(project="/p/lateen.yaml")
    text = "services: {}\nmeshConfig:\n  rootNamespace: root\n  outboundTrafficPolicy: {mode: REGISTRY_ONLY}\n"
    store.apply(FileEvent("/p/lateen.yaml", text.encode()))
    assert store.findings() == ()
    settings, _ = settings_of(store)
    assert (settings.root_namespace, settings.outbound_policy) == ("root", "REGISTRY_ONLY")


def test_a_wrong_section_keeps_the_last_good_one_and_says_the_line():
    store = ResourceStore(project="/p/lateen.yaml")
    store.apply(FileEvent("/p/lateen.yaml", b"services: {}\nmeshConfig:\n  rootNamespace: root\n"))
    store.apply(FileEvent("/p/lateen.yaml", b"services: {}\nmeshConfig:\n  rootNamspace: other\n"))
    (finding,) = store.findings()
    assert (finding.code, finding.origin.field, finding.origin.line) == ("unknown-field", "rootNamspace", 3)
    assert settings_of(store)[0].root_namespace == "root"


def test_a_project_that_is_no_yaml_keeps_its_section():
    store = ResourceStore(project="/p/lateen.yaml")
    store.apply(FileEvent("/p/lateen.yaml", b"meshConfig: {rootNamespace: root}"))
    store.apply(FileEvent("/p/lateen.yaml", b"meshConfig: ["))
    assert settings_of(store)[0].root_namespace == "root"


def test_a_file_of_its_own_need_not_say_its_kind():
    store = ResourceStore(mesh_configs=["/p/mesh.yaml"])
    store.apply(FileEvent("/p/mesh.yaml", b"connectTimeout: 3s\ndefaultServiceExportTo: [.]\n"))
    settings, _ = settings_of(store)
    assert (settings.connect_timeout, settings.service_export_to) == (3.0, (".",))


def test_of_two_configurations_the_first_file_holds():
    store = ResourceStore()
    for name in ("b", "a"):
        text = f"apiVersion: mesh.istio.io/v1alpha1\nkind: MeshConfig\nrootNamespace: {name}\n"
        store.apply(FileEvent(f"/p/{name}.yaml", text.encode()))
    assert settings_of(store)[0].root_namespace == "a"
    assert [finding.code for finding in store.findings()] == ["duplicate-resource"]


def test_the_trust_domain_of_a_running_mesh_stays():
    store = ResourceStore(mesh_configs=["/p/mesh.yaml"])
    store.apply(FileEvent("/p/mesh.yaml", b"connectTimeout: 3s\ntrustDomain: other.example\n"))
    settings, (finding,) = settings_of(store, trust_domain_is_fixed=True)
    assert (settings.trust_domain, settings.connect_timeout) == ("cluster.local", 3.0)
    assert (finding.code, finding.origin.line) == ("fixed-trust-domain", 2)
    assert settings_of(store)[0].trust_domain == "other.example"


def test_an_empty_outbound_policy_is_registry_only_as_in_istio():
    store = ResourceStore(mesh_configs=["/p/mesh.yaml"])
    store.apply(FileEvent("/p/mesh.yaml", b"outboundTrafficPolicy: {}\n"))
    assert settings_of(store)[0].outbound_policy == "REGISTRY_ONLY"
