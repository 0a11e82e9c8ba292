"""Where a request comes from: its client's own name for it, and the nodes that it came through."""

from __future__ import annotations

import pytest

from gateway.http.origin import origin
from wire.errors import InvalidRequest, LoopDetected
from wire.request import CLIENT_ID_CHARS_MAX, HOPS_MAX, Origin

OWN, PROXYS, VIA = b"x-client-request-id", b"x-request-id", b"x-workernode-via"


def nobodys(node: str) -> bool:
    return False


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        ({}, None),
        ({OWN: b"a"}, "a"),
        ({PROXYS: b"b"}, "b"),
        ({OWN: b"a", PROXYS: b"b"}, "a"),
        ({OWN: b"", PROXYS: b"b"}, "b"),
        ({OWN: b"\xe4", PROXYS: b"b"}, "b"),
        ({OWN: b"a b"}, "a b"),
        ({OWN: b"a\tb"}, None),
        ({OWN: b"x" * CLIENT_ID_CHARS_MAX}, "x" * CLIENT_ID_CHARS_MAX),
        ({OWN: b"x" * (CLIENT_ID_CHARS_MAX + 1)}, None),
    ],
)
def test_a_clients_name_for_its_request_is_openais_header_or_a_proxys(
    headers: dict[bytes, bytes], name: str | None
) -> None:
    assert origin(headers, nobodys) == (None if name is None else Origin(client_request_id=name))


def test_the_nodes_that_a_request_came_through_are_told_in_their_order() -> None:
    nodes = [f"node-{number}-0123456789abcdef" for number in range(HOPS_MAX)]
    told = {VIA: ", ".join(nodes).encode(), OWN: b"a"}
    assert origin(told, nobodys) == Origin(client_request_id="a", via=nodes)
    assert origin({VIA: nodes[0].encode()}, nobodys) == Origin(via=nodes[:1])
    with pytest.raises(LoopDetected, match=f"more than {HOPS_MAX} fleets"):
        origin({VIA: ",".join([*nodes, "node-x-0123456789abcdef"]).encode()}, nobodys)


def test_what_came_through_a_node_of_ours_is_refused_wherever_that_stood() -> None:
    nodes = [f"node-{number}-0123456789abcdef" for number in range(3)]
    for own in nodes:
        with pytest.raises(LoopDetected):
            origin({VIA: ",".join(nodes).encode()}, own.__eq__)


@pytest.mark.parametrize("told", [b"", b",", b"node-a-0123456789abcdef,", b"a/b", b"x" * 500, b"n\xf6de", b"../x"])
def test_what_names_no_nodes_is_refused(told: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        origin({VIA: told}, nobodys)
    assert refused.value.param == "x-workernode-via"
