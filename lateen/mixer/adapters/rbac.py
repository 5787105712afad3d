"""``rbac``: lets through what a ServiceRole allows to a subject of its binding, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from lateen.mesh.mixer.model import Grant
from lateen.mesh.mixer.roles import Asked, allows
from lateen.mixer.adapter import PERMISSION_DENIED, CheckAdapter, CheckResult
from lateen.mixer.adapters.texts import text
from lateen.mixer.templates import Authorization, Instance, Value
from lateen.resources.mixer.adapters import NO_ROLE


class Rbac(CheckAdapter):
    """``grants`` gives those that there are now; ``valid`` (seconds): how long a verdict holds."""

    templates = frozenset({"authorization"})

    def __init__(self, grants: Callable[[], Sequence[Grant]], *, valid: float = 60.0, uses: int = 1000) -> None:
        self._grants = grants
        self._valid, self._uses = valid, uses

    async def check(self, instance: Instance) -> CheckResult:
        if not isinstance(instance, Authorization):
            raise TypeError(f"{type(instance).__name__} is not an authorization")
        asked = _asked(instance)
        if any(allows(grant, asked) for grant in self._grants()):
            return CheckResult(valid=self._valid, uses=self._uses)
        return CheckResult(PERMISSION_DENIED, NO_ROLE, self._valid, self._uses)


def _asked(instance: Authorization) -> Asked:
    subject, action = instance.subject, instance.action
    return Asked(
        namespace=action.namespace,
        service=action.service,
        method=action.method,
        path=action.path,
        user=subject.user,
        groups=subject.groups,
        subject=_texts(subject.properties),
        action=_texts(action.properties),
    )


def _texts(values: Mapping[str, Value]) -> dict[str, str]:
    return {name: text(value) for name, value in values.items()}
