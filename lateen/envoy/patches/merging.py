"""Merging one message into another, as EnvoyFilter's MERGE does.

Comes in: two messages of one type. Goes out: the first one, changed. Fields that are set in the second win; messages
are merged field by field, lists are appended to (or replaced), entries of maps replaced by key. Durations, wrapped
values and free structures are taken whole, as half of one means nothing. Content of an ``Any`` is merged if both hold
the same type, and taken otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf import any_pb2, descriptor_pool, message_factory

from lateen.envoy.wire import serialise

_WHOLE = frozenset(
    f"google.protobuf.{name}"
    for name in (
        "Duration", "Timestamp", "BoolValue", "BytesValue", "DoubleValue", "FloatValue", "Int32Value", "Int64Value",
        "StringValue", "UInt32Value", "UInt64Value",
    )
)  # fmt: skip
_ANY = any_pb2.Any.DESCRIPTOR.full_name


def merge(target: Any, source: Any, written: Mapping[str, Any], *, replace_lists: bool = False) -> None:
    """Merge ``source`` into ``target``. ``written`` is the JSON that ``source`` was read from: it knows of zeros."""
    if source.DESCRIPTOR.full_name == _ANY:
        _merge_any(target, source, written, replace_lists)
        return
    for field, value in source.ListFields():
        if field.is_repeated:
            _merge_many(getattr(target, field.name), field, value, replace_lists)
        elif field.message_type is None:
            setattr(target, field.name, value)
        elif field.message_type.full_name in _WHOLE:
            getattr(target, field.name).CopyFrom(value)
        else:
            inner = getattr(target, field.name)
            inner.SetInParent()
            below = written.get(field.name, written.get(field.json_name))
            merge(inner, value, below if isinstance(below, dict) else {}, replace_lists=replace_lists)
    for name in written:
        _merge_zero(target, source, name)


def _merge_zero(target: Any, source: Any, name: str) -> None:
    """A plain field that is written as zero, false or its first enumerator counts as not set for protobuf."""
    for field in source.DESCRIPTOR.fields:
        plain = field.message_type is None and not field.is_repeated and not field.has_presence
        if plain and name in (field.name, field.json_name):
            setattr(target, field.name, getattr(source, field.name))


def _merge_many(present: Any, field: Any, value: Any, replace_lists: bool) -> None:
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        for key, item in value.items():
            if entry.fields_by_name["value"].message_type is None:
                present[key] = item
            else:
                present[key].CopyFrom(item)
        return
    if replace_lists:
        del present[:]
    present.extend(value)


def _merge_any(target: Any, source: Any, written: Mapping[str, Any], replace_lists: bool) -> None:
    if target.type_url != source.type_url or not source.type_url:
        target.CopyFrom(source)
        return
    name = source.type_url.rpartition("/")[2]
    descriptor = descriptor_pool.Default().FindMessageTypeByName(name)
    kind = message_factory.GetMessageClass(descriptor)
    merged, addition = kind.FromString(target.value), kind.FromString(source.value)
    merge(merged, addition, written, replace_lists=replace_lists)
    target.value = serialise(merged)
