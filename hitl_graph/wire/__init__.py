"""The shapes in which questions leave a graph and answers come back.

Out: `payload` is what an interrupt shows, for the client of a graph; `recognise` reads any interrupt, ours or not, into
requests. In: `parse` reads every answer that clients, LangChain's middleware and our own doors send;
`resume_values` wraps decisions as the graph wants them. Whatever is not recognised is refused.

One interrupt may ask several things, each a request of its own: `payload([...])` shows those that are not carried out
yet, in the order of their `position`; `parse_all` reads one answer to all of them.
"""

from hitl_graph.wire.answers import parse, parse_all
from hitl_graph.wire.clients import BRIDGE, Client, ClientName, client_of, payload
from hitl_graph.wire.dialects import named_in
from hitl_graph.wire.expecting import answer_schema
from hitl_graph.wire.fitting import validate
from hitl_graph.wire.recognising import recognise
from hitl_graph.wire.resuming import resume_value, resume_values

__all__ = [
    "BRIDGE",
    "Client",
    "ClientName",
    "answer_schema",
    "client_of",
    "named_in",
    "parse",
    "parse_all",
    "payload",
    "recognise",
    "resume_value",
    "resume_values",
    "validate",
]
