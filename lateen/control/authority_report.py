"""What the authority has to tell: warnings before its certificates run out, and metrics under Istio's names.

Comes in: an ``AuthorityStatus``. Goes out: findings, and Prometheus text.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator

from cryptography import x509

from lateen.findings import Finding, error, warning
from lateen.identity.authority import Authority, AuthorityStatus, runs_out
from lateen.resources.mesh_config import MeshConfigSpec
from lateen.resources.resource import Resource
from lateen.values.names import Origin


def authority_findings(authority: Authority) -> tuple[Finding, ...]:
    """What is wrong with it, or will be soon."""
    expiring = expiry_findings(authority.status())
    if not authority.problem:
        return expiring
    message = f"the authority goes on as it was, as its files are no good now: {authority.problem}"
    return (error("authority-files", message, Origin("Authority", "", authority.trust_domain)), *expiring)


def trusted_root_findings(resources: Iterable[Resource], now: datetime.datetime) -> Iterator[Finding]:
    """A warning for each root of others, in the MeshConfig, that soon runs out."""
    for resource in resources:
        entries = resource.spec.ca_certificates if isinstance(resource.spec, MeshConfigSpec) else ()
        for entry in entries:
            for root in x509.load_pem_x509_certificates((entry.pem or "").encode()) if entry.pem else ():
                if runs_out(root, now):
                    whom = " and ".join(entry.trust_domains) or "this mesh"
                    end = _time(root.not_valid_after_utc.timestamp())
                    message = f"the root {root.subject.rfc4514_string()} that is trusted for {whom} ends on {end}"
                    yield warning("trusted-root-expires", message, resource.origin, "add the root that follows it")


def expiry_findings(status: AuthorityStatus) -> tuple[Finding, ...]:
    """A warning for each of its certificates that soon runs out."""
    return tuple(
        warning(
            "authority-expires",
            f"the {'root' if one.is_root else 'intermediate'} certificate {one.subject} of the authority ends on "
            f"{_time(one.not_after)}; then nothing is signed any more",
            Origin("Authority", "", status.trust_domain),
            "exchange its files" if status.phase == "plugged-in" else "lateen ca rotate",
        )
        for one in status.certificates
        if one.runs_out
    )


def _time(seconds: float) -> str:
    return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%d %H:%M} UTC"


def metrics_text(status: AuthorityStatus) -> str:
    """Prometheus text; times are Unix seconds."""
    return "\n".join(_lines(status)) + "\n"


def _lines(status: AuthorityStatus) -> Iterator[str]:
    roots = [one.not_after for one in status.certificates if one.is_root]
    chain = [one.not_after for one in status.certificates if one.signs or not one.is_root]
    for name, value in (
        ("citadel_server_root_cert_expiry_timestamp", min(roots, default=0.0)),
        ("citadel_server_cert_chain_expiry_timestamp", min(chain, default=0.0)),
    ):
        yield f"# TYPE {name} gauge"
        yield f"{name} {value:.0f}"
    for name, count in (
        ("citadel_server_csr_count", status.signed + status.refused),
        ("citadel_server_success_cert_issuance_count", status.signed),
        ("citadel_server_csr_sign_err_count", status.refused),
    ):
        yield f"# TYPE {name} counter"
        yield f"{name} {count}"
