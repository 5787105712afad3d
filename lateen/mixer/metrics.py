"""What the mixer says of itself to Prometheus, and what its handlers of that kind have counted.

Comes in: tallies and handlers. Goes out: Prometheus text, served on a socket in the run directory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from lateen.mixer.adapter import ReportAdapter
from lateen.mixer.adapters.prometheus import CONTENT_TYPE, Prometheus
from lateen.mixer.check_server import CheckTally
from lateen.mixer.handler import Handler
from lateen.mixer.quota_server import QuotaTally
from lateen.mixer.report_server import ReportTally

HANDLER_METRICS: Mapping[str, Callable[[Handler], int]] = {
    "mixer_handler_calls_total": lambda handler: handler.tally.calls,
    "mixer_handler_failures_total": lambda handler: handler.tally.failures,
    "mixer_handler_timeouts_total": lambda handler: handler.tally.timeouts,
    "mixer_handler_held_back_total": lambda handler: handler.tally.held_back,
    "mixer_handler_lost_total": lambda handler: (
        handler.adapter.lost if isinstance(handler.adapter, ReportAdapter) else 0
    ),
}


def metrics_text(checks: CheckTally, reports: ReportTally, quotas: QuotaTally, handlers: Mapping[str, Handler]) -> str:
    """All of it. A handler's series are labelled with its name."""
    own = "\n".join(_lines(checks, reports, quotas, handlers.values())) + "\n"
    adapters = (handler.adapter for handler in handlers.values())
    return own + "".join(adapter.exposition() for adapter in adapters if isinstance(adapter, Prometheus))


def _lines(checks: CheckTally, reports: ReportTally, quotas: QuotaTally, handlers: Iterable[Handler]) -> Iterator[str]:
    for name, value in (
        ("mixer_checks_total", checks.checks),
        ("mixer_checks_refused_total", checks.refused),
        ("mixer_checks_failed_total", checks.failed),
        ("mixer_checks_shed_total", checks.shed),
        ("mixer_reports_total", reports.taken),
        ("mixer_reports_lost_total", reports.lost),
        ("mixer_reports_failed_total", reports.failed),
        ("mixer_quotas_granted_total", quotas.granted),
        ("mixer_quotas_refused_total", quotas.refused),
        ("mixer_quotas_tried_total", quotas.tried),
        ("mixer_quotas_failed_total", quotas.failed),
    ):
        yield f"# TYPE {name} counter"
        yield f"{name} {value}"
    running = list(handlers)
    for name, count in HANDLER_METRICS.items():
        yield f"# TYPE {name} counter"
        yield from (f'{name}{{handler="{handler.name}"}} {count(handler)}' for handler in running)


def application(text: Callable[[], str]) -> Starlette:
    """Serves ``/metrics``."""

    async def metrics(_: Request) -> Response:
        return Response(text(), media_type=CONTENT_TYPE)

    return Starlette(routes=[Route("/metrics", metrics)])
