"""Labels of metrics that are packed into one, and taken apart again."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from lateen.values.packed_labels import PACKED, packed, whole

NAMES = st.from_regex(r"[a-z][a-z_]{0,5}", fullmatch=True)
VALUES = st.text(st.sampled_from('abz~;=,{}"\\ 01é'), max_size=8)


def _written(value: str) -> str:
    """A label's value as Prometheus writes it, which is JSON's way for these characters."""
    return json.dumps(value, ensure_ascii=False)


def _sample(labels: dict[str, str]) -> str:
    return "up{" + ",".join(f"{name}={_written(value)}" for name, value in labels.items()) + "} 1\n"


@given(st.dictionaries(NAMES, VALUES, min_size=1, max_size=4), VALUES)
def test_what_is_packed_is_whole_again(labels: dict[str, str], other: str) -> None:
    text = _sample({"First": other, PACKED: packed(labels.items()), "Last": other})
    assert whole(text.encode()).decode() == _sample({"First": other, **labels, "Last": other})


def test_values_that_look_like_a_packed_label_stay() -> None:
    text = _sample({"first": f',{PACKED}="a=b"', f"x_{PACKED}": "a=b"}).encode()
    assert whole(text) == text
