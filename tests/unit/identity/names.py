"""Who asks for certificates in these tests, and when."""

import datetime

from lateen.values.names import SpiffeId

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
REVIEWS = SpiffeId("cluster.local", "default", "reviews")
RATINGS = SpiffeId("cluster.local", "default", "ratings")


def utc_now():
    return datetime.datetime.now(datetime.UTC)
