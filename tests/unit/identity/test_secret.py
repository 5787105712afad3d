"""Key material does not show itself."""

from lateen.envoy.secrets import translate_secret
from lateen.identity.sds import workload_secrets
from lateen.identity.workload import Credentials
from lateen.plan.tls import SecretRef
from lateen.values.secret import SecretBytes

KEY = SecretBytes(b"PRIVATE")


def test_no_way_of_printing_shows_the_bytes():
    texts = [repr(KEY), str(KEY), f"{KEY}", f"{KEY!r:>40}", str([KEY]), str({"key": KEY})]
    assert "PRIVATE" not in "".join(texts)
    assert bytes(KEY) == b"PRIVATE"


def test_values_that_hold_keys_do_not_show_them_either():
    credentials = Credentials(b"CHAIN", KEY, b"ROOTS", 0.0, 1.0)
    assert "PRIVATE" not in repr(credentials)
    assert "PRIVATE" not in repr(workload_secrets(credentials))
    assert "PRIVATE" not in repr(translate_secret(SecretRef("s"), b"CERT", b"PRIVATE", b""))
