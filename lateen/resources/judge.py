"""Judges every document of a file by itself: one verdict a document, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from lateen.findings import Finding, Severity
from lateen.resources.checks.request_authentication import token_demand
from lateen.resources.decode import decode, identify
from lateen.resources.documents import parse_documents
from lateen.resources.resource import Resource
from lateen.resources.support import check_support
from lateen.resources.validate import validate_resource


class Verdict(msgspec.Struct, frozen=True):
    """What is to be said of one document; a text that is no YAML is a document without kind and name."""

    kind: str
    namespace: str
    name: str
    findings: tuple[Finding, ...]


def judge(
    data: bytes,
    path: str,
    default_namespace: str = "default",
    kind: str = "",
    *,
    with_support: bool = False,
    beyond: Callable[[Resource], Iterable[Finding]] = lambda _: (),
) -> list[Verdict]:
    """Read, decode and check every document. ``kind`` is taken for documents that name none.

    The findings are about the resources' own rules. ``with_support`` adds a warning for each thing that Lateen does
    not do yet, and what ``beyond`` finds.
    """
    documents, broken = parse_documents(data, path)
    verdicts: list[tuple[int, Verdict]] = [(finding.origin.line, Verdict("", "", "", (finding,))) for finding in broken]
    for document in documents:
        resource, findings = decode(document, default_namespace, kind)
        if resource is not None:
            findings = (*findings, *validate_resource(resource), *token_demand(resource))
            if with_support:
                findings = (*findings, *(_softened(finding) for finding in check_support(resource)), *beyond(resource))
        key = resource.key if resource is not None else identify(document, default_namespace)
        if key is not None:
            verdict = Verdict(key.kind, key.namespace, key.name, findings)
        else:
            verdict = Verdict(kind, "", "", findings)
        verdicts.append((document.line, verdict))
    return [verdict for _, verdict in sorted(verdicts, key=lambda entry: entry[0])]


def _softened(finding: Finding) -> Finding:
    return msgspec.structs.replace(finding, severity=Severity.WARNING)
