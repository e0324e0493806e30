"""Look at what waits for people, and decide. Every door (command line, notebook, web) goes through here."""

from hitl_graph.inbox.answering import Answering
from hitl_graph.inbox.lasting import Lasting
from hitl_graph.inbox.looking import Looking

__all__ = ["Inbox"]


class Inbox(Looking, Answering, Lasting):
    """Pending requests over all threads of one ledger.

    Made of three parts: what it tells (`Looking`), what people do with a request (`Answering`), and what holds beyond
    one (`Lasting`).
    """
