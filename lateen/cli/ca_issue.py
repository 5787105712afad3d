"""``lateen ca issue``: a certificate for a workload elsewhere, whose key is made here and stays here."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import click

from lateen.api.client import ApiError, Client
from lateen.cli.finding_mesh import find_mesh, mesh_options
from lateen.values.names import SpiffeId

KEY, CHAIN, ROOTS = "key.pem", "cert-chain.pem", "root-cert.pem"
KINDS = ("ec-p256", "ec-p384", "rsa-2048", "rsa-3072", "rsa-4096")


@click.command(help="Get a certificate for a workload: of the mesh that runs here, or of an authority elsewhere.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Where the files go.")
@click.option("--namespace", "-n", default="default", show_default=True)
@click.option("--service-account", "-s", metavar="NAME", help="Whose certificate; not with --renew.")
@click.option("--server", metavar="HOST:PORT", help="The authority's port over TLS; needs --root.")
@click.option("--root", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Its roots (PEM).")
@click.option("--server-name", default="", help="What its certificate bears, where that is not its host.")
@click.option("--token-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A token, in a file.")
@click.option("--renew", is_flag=True, help="By the certificate in --out, at the port for renewal.")
@click.option("--trust-domain", default="cluster.local", show_default=True)
@click.option("--key", "kind", type=click.Choice(KINDS), default=KINDS[0], show_default=True)
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
    kind: str,
    mesh_name: str | None,
    run_dir: Path | None,
) -> None:
    from lateen.identity.certificate import build_request, new_key
    from lateen.identity.csr_client import CertificateUnavailable, request_chain, request_chain_over_tls
    from lateen.identity.keystore import write_private
    from lateen.identity.workload import judge_chain

    if renew == (service_account is not None) or (renew and token_file is not None):
        raise click.UsageError("give --service-account for a new certificate, or --renew, not both")
    if server is not None and (root is None or not (renew or token_file is not None)):
        raise click.UsageError("--server needs --root, and --token-file or --renew")
    if server is None and renew:
        raise click.UsageError("--renew needs --server")
    try:
        identity = _present(out) if renew else SpiffeId(trust_domain, namespace, service_account or "")
        key = new_key(kind)
        if server is None:
            run, record = find_mesh(mesh_name, run_dir)
            if record is not None:
                identity = SpiffeId(record.trust_domain, namespace, service_account or "")
            asked = {"namespace": namespace, "service_account": service_account}
            token = Client(run.control_socket).post("/v1/ca/tokens", asked)["token"]
            chain = asyncio.run(request_chain(run.ca_socket, token, build_request(key, identity)))
        else:
            chain = asyncio.run(
                request_chain_over_tls(
                    server,
                    root.read_bytes() if root is not None else b"",
                    build_request(key, identity),
                    token=token_file.read_text().strip() if token_file is not None else "",
                    pair=((out / KEY).read_bytes(), (out / CHAIN).read_bytes()) if renew else None,
                    name=server_name,
                )
            )
        credentials = judge_chain(chain, key, identity, time.time())
    except (ApiError, CertificateUnavailable, ValueError) as problem:
        raise click.ClickException(str(problem)) from problem
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, data in ((KEY, bytes(credentials.key)), (CHAIN, credentials.chain), (ROOTS, credentials.roots)):
        write_private(out / name, data)
    until = time.strftime("%Y-%m-%d %H:%M", time.gmtime(credentials.not_after))
    click.echo(f"{identity} until {until} UTC: {out / CHAIN}, {out / KEY}, {out / ROOTS}")


def _present(out: Path) -> SpiffeId:
    """The identity of the certificate that is there."""
    from cryptography import x509

    from lateen.identity.certificate import identity_of

    try:
        return identity_of(x509.load_pem_x509_certificates((out / CHAIN).read_bytes())[0])
    except OSError as problem:
        raise click.ClickException(f"{out / CHAIN}: {problem.strerror}") from problem
