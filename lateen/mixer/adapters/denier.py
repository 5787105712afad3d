"""``denier``: refuses whatever it is asked about, with the status that it is told."""

from __future__ import annotations

from lateen.mixer.adapter import FAILED_PRECONDITION, CheckAdapter, CheckResult, QuotaAdapter, QuotaArgs, QuotaResult
from lateen.mixer.templates import Instance


class Denier(CheckAdapter, QuotaAdapter):
    """``valid`` (seconds) and ``uses``: for how long and how often a refusal holds."""

    templates = frozenset({"checknothing", "listentry", "quota"})

    def __init__(
        self, code: int = FAILED_PRECONDITION, message: str = "", valid: float = 5.0, uses: int = 1000
    ) -> None:
        self._result = CheckResult(code or FAILED_PRECONDITION, message, valid, uses)

    async def check(self, instance: Instance) -> CheckResult:
        return self._result

    async def allot(self, instance: Instance, args: QuotaArgs) -> QuotaResult:
        return QuotaResult(0, self._result.valid, self._result.code, self._result.message)
