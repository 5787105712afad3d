"""``lateen ca issue``: a certificate for a workload elsewhere, whose key is made here and stays here."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import click
import msgspec

from lateen.api.client import ApiError, Client
from lateen.cli.finding_mesh import find_mesh, mesh_options
from lateen.values.names import SpiffeId
from lateen.values.network import is_resource_name

KINDS = ("ec-p256", "ec-p384", "rsa-2048", "rsa-3072", "rsa-4096")
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


class Server(msgspec.Struct, frozen=True):
    """An authority elsewhere: ``host:port``, its roots (PEM), the name that its certificate bears."""

    address: str
    roots: bytes
    name: str


@click.command(help="Get a certificate for a workload: of the mesh that runs here, or of an authority elsewhere.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Where the files go.")
@click.option("--namespace", "-n", default="default", show_default=True)
@click.option("--service-account", "-s", metavar="NAME", help="Whose certificate; not with --renew.")
@click.option("--server", metavar="HOST:PORT", help="The authority's port over TLS.")
@click.option("--root", type=_FILE, help="Its roots (PEM); with --renew those in --out if not given.")
@click.option("--server-name", default="", help="What its certificate bears, where that is not its host.")
@click.option("--token-file", type=_FILE, help="A token, in a file.")
@click.option("--renew", is_flag=True, help="By the certificate in --out, at the port for renewal; the key stays.")
@click.option("--trust-domain", default="cluster.local", show_default=True, help="That of an authority elsewhere.")
@click.option("--key", "kind", type=click.Choice(KINDS), help="The key to make; ec-p256 if not given.")
@mesh_options
def issue(
    out: Path,
    namespace: str,
    service_account: str | None,
    server: str | None,
    root: Path | None,
    server_name: str,
    token_file: Path | None,
    renew: bool,
    trust_domain: str,
    kind: str | None,
    mesh_name: str | None,
    run_dir: Path | None,
) -> None:
    if renew == (service_account is not None) or (renew and (token_file is not None or kind is not None)):
        raise click.UsageError("give --service-account for a new certificate, or --renew, not both")
    if server is not None and not renew and (root is None or token_file is None):
        raise click.UsageError("--server needs --root and --token-file, or --renew")
    if server is None and renew:
        raise click.UsageError("--renew needs --server")
    for name, text in (("--namespace", namespace), ("--service-account", service_account)):
        if text is not None and not is_resource_name(text):
            raise click.BadParameter(
                f"{text!r} is no name of Kubernetes: small letters, digits, - and .", param_hint=name
            )
    _check_server(server)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from lateen.identity.csr_client import CertificateUnavailable
    from lateen.identity.keystore import KeystoreError

    try:
        if server is not None and renew:
            work = _renewed(out, server, root, server_name)
        else:
            identity = SpiffeId(trust_domain, namespace, service_account or "")
            if server is None:
                identity, ask = _here(identity, mesh_name, run_dir)
            else:
                ask = _elsewhere(Server(server, _roots(root), server_name), token=_token(token_file))
            work = _new(out, identity, kind or KINDS[0], ask)
        identity, credentials = asyncio.run(work)
    except (ApiError, CertificateUnavailable, KeystoreError, OSError) as problem:
        raise click.ClickException(str(problem)) from problem
    until = time.strftime("%Y-%m-%d %H:%M", time.gmtime(credentials.not_after))
    click.echo(f"{identity} until {until} UTC: {out}")


def _check_server(server: str | None) -> None:
    port = (server or ":1").rpartition(":")[2]
    if server is not None and (":" not in server or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536)):
        raise click.BadParameter(f"{server} is not HOST:PORT", param_hint="--server")


async def _new(out: Path, identity: SpiffeId, kind: str, ask: Callable[[bytes], Awaitable[list[bytes]]]) -> Any:
    from lateen.identity.issue import obtain

    return identity, await obtain(out, identity, kind, ask, time.time())


async def _renewed(out: Path, server: str, root: Path | None, name: str) -> Any:
    from lateen.identity.issue import Present

    present = Present(out)
    roots = _roots(root) if root is not None else present.roots
    ask = _elsewhere(Server(server, roots, name), pair=present.pair)
    return present.identity, await present.renew(ask, time.time())


def _here(identity: SpiffeId, mesh_name: str | None, run_dir: Path | None) -> Any:
    """The identity in the mesh that runs here, and how to ask its authority: with a join token made for this."""
    from lateen.identity.csr_client import request_chain

    run, record = find_mesh(mesh_name, run_dir)
    wish = {"namespace": identity.namespace, "service_account": identity.service_account}

    async def ask(request: bytes) -> list[bytes]:
        token = Client(run.control_socket).post("/v1/ca/tokens", wish)["token"]
        return await request_chain(run.ca_socket, token, request)

    if record is not None:
        identity = msgspec.structs.replace(identity, trust_domain=record.trust_domain)
    return identity, ask


def _elsewhere(server: Server, *, token: str = "", pair: tuple[bytes, bytes] | None = None) -> Any:
    from lateen.identity.csr_client import request_chain_over_tls

    async def ask(request: bytes) -> list[bytes]:
        return await request_chain_over_tls(
            server.address, server.roots, request, token=token, pair=pair, name=server.name
        )

    return ask


def _roots(file: Path | None) -> bytes:
    from cryptography import x509

    from lateen.values.unreadable import UNREADABLE

    data = file.read_bytes() if file is not None else b""
    try:
        x509.load_pem_x509_certificates(data)
    except UNREADABLE as problem:
        raise click.ClickException(f"{file} holds no certificates in PEM") from problem
    return data


def _token(file: Path | None) -> str:
    text = (file.read_bytes() if file is not None else b"").strip()
    if not text or not all(33 <= byte < 127 for byte in text):
        raise click.ClickException(f"{file} holds no token: one word of plain ASCII")
    return text.decode("ascii")
