"""Which of the requests that are over a rule reports: a share of them, and so many in a while.

Comes in: a bag of attributes. Goes out: whether it is reported. Both have to agree where both are said.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from hashlib import blake2b

from lateen.expressions.evaluate import AbsentError, Bag, Evaluator, compile_expression
from lateen.expressions.functions import Unusable
from lateen.expressions.vocabulary import Vocabulary
from lateen.mesh.mixer import model

REQUEST_ID = "x-request-id"
_FINE = 1 << 64


class Sampler:
    """The sampling of one rule. ``chance`` is from 0 to below 1, ``clock`` in seconds."""

    def __init__(
        self,
        sampling: model.Sampling,
        vocabulary: Vocabulary,
        *,
        chance: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._said = sampling
        self._numerator: Evaluator | None = (
            compile_expression(sampling.numerator, vocabulary) if sampling.numerator is not None else None
        )
        self._chance, self._clock = chance, clock
        self._until = float("-inf")
        self._count = 0

    def takes(self, bag: Bag) -> bool:
        """Whether what this bag tells of is reported."""
        if self._said.share is not None and not self._drawn(bag):
            return False
        return self._said.window is None or self._within_limit(self._said.window)

    def _drawn(self, bag: Bag) -> bool:
        """By the request's id, so that all proxies of a request decide alike; by chance where it has none."""
        name = None if self._said.independent else bag.entry("request.headers", REQUEST_ID)
        if name is None:
            return self._chance() < self._share(bag)
        digest = blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()
        return int.from_bytes(digest, "big") / _FINE < self._share(bag)

    def _share(self, bag: Bag) -> float:
        share = self._said.share or 0.0
        if self._numerator is None:
            return share
        try:
            return float(self._numerator(bag)) / self._said.denominator
        except (AbsentError, Unusable):
            return 0.0

    def _within_limit(self, window: float) -> bool:
        """The first ones of each while, and then one of ``rate``."""
        now = self._clock()
        if now >= self._until:
            self._until, self._count = now + window, 0
        self._count += 1
        more = self._count - self._said.most
        return more <= 0 or more % self._said.rate == 0
