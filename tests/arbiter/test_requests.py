"""What may enter, and what is refused at the edge."""

from __future__ import annotations

from typing import Any

import pytest

from arbiter.requests import accept
from blackboard.errors import BadInput


def test_text_and_plain_objects_pass_unchanged() -> None:
    assert accept("do it", None) == ("do it", None)
    assert accept({"orderId": "1"}, "k") == ({"orderId": "1"}, "k")


def test_the_identity_of_a_cloudevent_is_its_idempotency_key() -> None:
    event = {"specversion": "1.0", "id": "7", "source": "/shop", "type": "order.placed", "data": {"x": 1}}
    assert accept(event, None) == (event, "/shop\x007")
    assert accept(event, "mine")[1] == "mine"


@pytest.mark.parametrize(
    ("event", "field"),
    [
        ({"specversion": "0.3", "id": "1", "source": "s", "type": "t"}, "request.specversion"),
        ({"specversion": "1.0", "source": "s", "type": "t"}, "request.id"),
        ({"specversion": "1.0", "id": "", "source": "s", "type": "t"}, "request.id"),
        ({"specversion": "1.0", "id": "1", "source": 5, "type": "t"}, "request.source"),
        ({"specversion": "1.0", "id": "1", "source": "s"}, "request.type"),
    ],
)
def test_a_malformed_event_is_refused_by_the_name_of_its_attribute(event: dict[str, Any], field: str) -> None:
    with pytest.raises(BadInput) as refused:
        accept(event, None)
    assert refused.value.field == field


@pytest.mark.parametrize("value", [5, None, ["a"], b"x"])
def test_what_is_neither_text_nor_an_object_is_refused(value: Any) -> None:
    with pytest.raises(BadInput, match="CloudEvents"):
        accept(value, None)
