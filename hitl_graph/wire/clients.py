"""The clients through which people answer, and what each of them can do.

Answers are read in one way (see `answers`); what differs is how a question has to look, and whether a client says which
question it answers. Choose one for a graph with `client=` of its nodes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from hitl_graph.model import Request
from hitl_graph.wire.showing import Shape, ag_ui, bridge, human_interrupt

__all__ = ["BRIDGE", "Client", "ClientName", "client_of", "payload"]

ClientName = Literal["bridge", "agent-inbox", "agent-chat-ui", "studio", "ag-ui", "copilotkit"]


@dataclass(frozen=True)
class Client:
    """How one client is to be talked to.

    Args:
        name: As in `client=`.
        shape: What an interrupt shows of its requests.
        names_interrupt: Its answers say which interrupt they are for. Where they do not, a node asks by one interrupt
            for all that it has to ask.
        draws_all: It draws all requests of an interrupt, and answers all at once. Where it does not, it draws the
            first, and answers that; the next one is shown after it.
        names_request: Its answers send back the `request_id` that they were shown. One that does not is refused, for it
            may have been meant for what was asked before.
        says_approved: It answers as AG-UI does, `{"approved": true}`. From others that is no answer.
    """

    name: str
    shape: Shape
    names_interrupt: bool = True
    draws_all: bool = True
    names_request: bool = False
    says_approved: bool = False


BRIDGE = Client("bridge", bridge)

_CLIENTS = {
    client.name: client
    for client in (
        BRIDGE,
        Client("agent-inbox", human_interrupt, names_interrupt=False, draws_all=False, names_request=True),
        Client("agent-chat-ui", bridge, names_interrupt=False),
        Client("studio", bridge),
        Client("ag-ui", ag_ui, says_approved=True),
        Client("copilotkit", ag_ui, names_interrupt=False, draws_all=False, names_request=True, says_approved=True),
    )
}
assert set(_CLIENTS) == set(get_args(ClientName))


def client_of(client: ClientName | Client) -> Client:
    """The client of a name.

    Raises:
        ValueError: There is none.
    """
    if isinstance(client, Client):
        return client
    if client not in _CLIENTS:
        raise ValueError(f"there is no client {client!r}; there are {', '.join(_CLIENTS)}, or give a Client")
    return _CLIENTS[client]


def payload(requests: Request | Sequence[Request], client: Client = BRIDGE) -> Any:
    """What an interrupt shows for a request, or for several: plain JSON, complete enough to be answered."""
    return client.shape([requests] if isinstance(requests, Request) else requests)
