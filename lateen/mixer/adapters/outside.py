"""Adapters outside Mixer: whoever answers Mixer's own services over gRPC.

Comes in: instances of any template that is known. Goes out: what the other end says. It is told the handler's
``params`` with each call, as a message of the type that the adapter's descriptor has.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.message import DecodeError

from lateen.mixer.adapter import (
    CheckAdapter,
    CheckResult,
    QuotaAdapter,
    QuotaArgs,
    QuotaResult,
    ReportAdapter,
)
from lateen.mixer.adapters import outside_messages as messages
from lateen.mixer.adapters.tokens import Send, Tokens
from lateen.mixer.instances import STRUCTS
from lateen.mixer.templates import Instance
from lateen.resources.mixer.outside import OUTSIDE_TEMPLATES, Connection, OutsideParams, TlsAuthentication

PARAMS = "Params"
TYPE = "type.googleapis.com/"
_TEMPLATES = {struct: template for template, struct in STRUCTS.items()}


class Unfit(ValueError):
    """Parameters that cannot be told to the adapter; the message says why."""


def config_of(params: OutsideParams) -> any_pb2.Any | None:
    """What the adapter is told of its handler's parameters; None for nothing. Raises Unfit."""
    if not params.config:
        if params.params:
            raise Unfit("the adapter has no config, so it cannot be told params")
        return None
    try:
        found = descriptor_pb2.FileDescriptorSet.FromString(
            base64.b64decode("".join(params.config.split()), validate=True)
        )
        message = _params_message(found)()
        json_format.ParseDict(params.params, message)
    except (binascii.Error, DecodeError) as problem:
        raise Unfit(f"config is no FileDescriptorSet in base64: {problem}") from problem
    except (json_format.ParseError, TypeError, KeyError) as problem:
        raise Unfit(f"params do not fit: {problem}") from problem
    return any_pb2.Any(type_url=f"{TYPE}{message.DESCRIPTOR.full_name}", value=message.SerializeToString())


def _params_message(files: Any) -> Any:
    """The class of the message ``Params``, which stands in the last file that has one."""
    named = [file for file in files.file if any(message.name == PARAMS for message in file.message_type)]
    if not named:
        raise Unfit(f"config has no message {PARAMS}")
    pool, known = descriptor_pool.DescriptorPool(), {file.name: file for file in files.file}
    added: set[str] = set()

    def add(name: str) -> None:
        if name in added:
            return
        added.add(name)
        file = known.get(name)
        if file is None:
            raise Unfit(f"config lacks {name}")
        for other in file.dependency:
            add(other)
        pool.Add(file)

    add(named[-1].name)
    prefix = f"{named[-1].package}." if named[-1].package else ""
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{prefix}{PARAMS}"))


class Outside(CheckAdapter, QuotaAdapter, ReportAdapter):
    """``config`` makes what is told of parameters. The channel is opened with the first call."""

    templates = OUTSIDE_TEMPLATES

    def __init__(
        self, connection: Connection, config: Callable[[], any_pb2.Any | None], tokens: Tokens | None = None
    ) -> None:
        self._connection, self._tokens = connection, tokens
        self._make_config = config
        self._config: any_pb2.Any | None = None
        self._channel: grpc.aio.Channel | None = None
        self.lost = 0

    async def check(self, instance: Instance) -> CheckResult:
        template = _TEMPLATES[type(instance)]
        return messages.check_result(
            await self._call(template, lambda config: messages.request(template, [instance], config))
        )

    async def allot(self, instance: Instance, args: QuotaArgs) -> QuotaResult:
        answer = await self._call("quota", lambda config: messages.quota_request(instance, args, config))
        return messages.quota_result(answer, instance)

    async def report(self, template: str, instances: Sequence[Instance]) -> None:
        try:
            await self._call(template, lambda config: messages.request(template, instances, config))
        except (OSError, Unfit, asyncio.CancelledError):
            self.lost += len(instances)
            raise

    async def _credentials(self) -> tuple[tuple[str, str], ...]:
        said = self._connection.authentication
        if self._tokens is None or said is None:
            return ()
        return (_header(said.tls, await self._tokens.get()),)

    async def close(self) -> None:
        if self._tokens is not None:
            await self._tokens.close()
        if self._channel is not None:
            await self._channel.close()

    async def _call(self, template: str, make: Callable[[Any], Any]) -> bytes:
        if self._channel is None:
            self._config = self._make_config()
            self._channel = _channel(self._connection)
        call = self._channel.unary_unary(messages.method_of(template))
        try:
            metadata = await self._credentials()
            answer: bytes = await call(make(self._config).SerializeToString(), metadata=metadata)
        except grpc.aio.AioRpcError as problem:
            raise OSError(f"{problem.code().name}: {problem.details()}") from problem
        return answer


def _channel(connection: Connection) -> grpc.aio.Channel:
    said = connection.authentication
    if said is None or (said.tls is None and said.mutual is None):
        return grpc.aio.insecure_channel(connection.address)
    if said.mutual is not None:
        name = said.mutual.server_name
        credentials = grpc.ssl_channel_credentials(
            _read(said.mutual.ca_certificates), _read(said.mutual.private_key), _read(said.mutual.client_certificate)
        )
    else:
        assert said.tls is not None
        name, credentials = said.tls.server_name, grpc.ssl_channel_credentials(_read(said.tls.ca_certificates))
    options = [("grpc.ssl_target_name_override", name)] if name else []
    return grpc.aio.secure_channel(connection.address, credentials, options=options)


def _read(path: str) -> bytes | None:
    return Path(path).read_bytes() if path else None


def tokens_of(connection: Connection, send: Send) -> Tokens | None:
    """What tokens calls carry; None for none."""
    tls = connection.authentication.tls if connection.authentication is not None else None
    if tls is None or not (tls.token_path or tls.oauth):
        return None
    return Tokens(tls.token_path, tls.oauth, send)


def _header(tls: TlsAuthentication | None, token: str) -> tuple[str, str]:
    if tls is not None and tls.custom_header:
        return tls.custom_header.lower(), token
    is_bearer = tls is not None and tls.auth_header == "BEARER"
    return "authorization", f"Bearer {token}" if is_bearer else token
