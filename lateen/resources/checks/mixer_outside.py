"""Adapters outside Mixer: their descriptions, and how handlers reach them."""

from __future__ import annotations

import base64
import binascii

from lateen.resources.checks import Report
from lateen.resources.mixer.bound import DescriptorSpec
from lateen.resources.mixer.outside import OUTSIDE_TEMPLATES, Authentication, Connection, OAuth, short_name
from lateen.values.network import is_header_name, split_host_port
from lateen.values.web_address import url_problem

NO_SESSIONS = ("no sessions are kept with adapters", "let the adapter take its configuration with each call")
SCHEMES = ("unix:", "dns:", "ipv4:", "ipv6:")
"""Of gRPC's own addresses."""
LONGEST_S = 10.0
PROXIES_WAIT_S = 1.0


def check_adapter(report: Report) -> None:
    spec: DescriptorSpec = report.resource.spec
    if spec.session_based:
        report.error("spec.sessionBased", *NO_SESSIONS, "unsupported-field")
    if not spec.templates:
        report.error("spec", "the adapter takes no templates", "give templates", "missing-field")
    for index, name in enumerate(spec.templates):
        if short_name(name) not in OUTSIDE_TEMPLATES:
            remedy = f"the templates are {', '.join(sorted(OUTSIDE_TEMPLATES))}"
            report.error(f"spec.templates[{index}]", f"there is no template {name} for it", remedy, "unknown-template")
    if spec.config:
        _check_base64(report, "spec.config", spec.config)


def check_template(report: Report) -> None:
    """Templates are known here by their names; a resource for one says nothing new, and others are not read."""
    if report.resource.key.name not in OUTSIDE_TEMPLATES:
        message = f"templates of your own are not read, and {report.resource.key.name} is none of Mixer's"
        remedy = f"use one of {', '.join(sorted(OUTSIDE_TEMPLATES))}, or an adapter of your own"
        report.error("metadata.name", message, remedy, "unsupported-kind")
    else:
        report.note("spec", "this template is known here as it was in Mixer", "leave the resource out")


def _check_base64(report: Report, field: str, text: str) -> None:
    try:
        base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        report.error(field, "this is no base64", "write a FileDescriptorSet in base64")


def check_connection(report: Report, connection: Connection) -> None:
    place = "spec.connection"
    if not connection.address:
        report.error(place, "no address is given", "give address", "missing-field")
    else:
        check_target(report, f"{place}.address", connection.address)
    if connection.timeout is not None and not 0 < connection.timeout <= LONGEST_S:
        report.error(f"{place}.timeout", f"it is not between 0 and {LONGEST_S:g} s", "write one such as 0.5s")
    elif connection.timeout is not None and connection.timeout > PROXIES_WAIT_S:
        message = f"proxies wait for a verdict no longer than {PROXIES_WAIT_S:g} s, so for checks this is too long"
        report.warn(
            f"{place}.timeout", message, f"write {PROXIES_WAIT_S:g}s or less, but for an adapter that takes note"
        )
    said = connection.authentication
    if said is not None:
        _check_authentication(report, f"{place}.authentication", said)


def check_target(report: Report, field: str, address: str) -> None:
    """Where gRPC calls; without a port that would be 443."""
    if not address.startswith(SCHEMES) and split_host_port(address) is None:
        report.error(field, f"{address!r} is no address", "write HOST:PORT, such as 127.0.0.1:44225, or unix:///PATH")


def _check_authentication(report: Report, place: str, said: Authentication) -> None:
    if (said.tls is None) is (said.mutual is None):
        report.error(place, "one of tls and mutual is needed", "write one of them", "missing-field")
    if said.tls is not None:
        if said.tls.oauth is not None:
            _check_oauth(report, f"{place}.tls.oauth", said.tls.oauth)
        if said.tls.oauth is not None and said.tls.token_path:
            report.error(f"{place}.tls.oauth", "tokenPath and oauth exclude each other", "keep one of them")
        if said.tls.custom_header and not is_header_name(said.tls.custom_header):
            report.error(f"{place}.tls.customHeader", f"{said.tls.custom_header!r} is no header", "name another")
        if said.tls.custom_header and said.tls.auth_header is not None:
            report.error(f"{place}.tls.customHeader", "authHeader and customHeader exclude each other", "keep one")
        has_token = said.tls.token_path or said.tls.oauth is not None
        if not has_token and (said.tls.custom_header or said.tls.auth_header is not None):
            report.error(f"{place}.tls", "there is no token to send", "give tokenPath or oauth", "missing-field")
    if said.mutual is not None and not (said.mutual.private_key and said.mutual.client_certificate):
        message = "a certificate and its key are needed"
        report.error(f"{place}.mutual", message, "give clientCertificate and privateKey", "missing-field")


def _check_oauth(report: Report, place: str, oauth: OAuth) -> None:
    problem = url_problem(oauth.token_url) if oauth.token_url else "is missing"
    if problem:
        report.error(f"{place}.tokenUrl", f"the address for tokens {problem}", "write https://HOST/PATH")
    if not oauth.client_id:
        report.error(place, "no client is named", "give clientId", "missing-field")
    if oauth.client_secret and not oauth.client_secret.startswith("/"):
        report.error(f"{place}.clientSecret", "this is no path of a file", "keep the secret in a file: /path/to/file")
