"""Quotas of Mixer: values that are no texts are held against those that are written as they would be written."""

from __future__ import annotations

import asyncio

import pytest

from lateen.mixer.by_hand import ByHand
from lateen.mixer.order import MixerOrder, ordered
from tests.unit.mixer_resources import counted
from tests.unit.plan.building import resources

QUOTA = counted(
    '{name: calls, maxAmount: 1, overrides: [{dimensions: {mtls: "true"}, maxAmount: 100}]}',
    "{mtls: connection.mtls}",
    '{match: [{clause: {context.reporter.local: {exact: "true"}}}], quotas: [{quota: calls, charge: 50}]}',
)


@pytest.mark.parametrize(
    ("mtls", "local", "status"), [("true", "true", 200), ("false", "true", 429), ("false", "false", 200)]
)
def test_truths_are_texts_as_they_are_written(mtls: str, local: str, status: int) -> None:
    written = (f"connection.mtls={mtls}", f"context.reporter.local={local}", "destination.namespace=default")

    async def asked() -> int:
        async with ByHand(MixerOrder(resources=ordered(resources(QUOTA)))) as rules:
            outcome = await rules.check(rules.bag(written))
            return 200 if outcome.goes_on else outcome.status

    assert asyncio.run(asked()) == status
