"""An inbox in a process of its own: `python -m tests.web.inbox_server DATABASE`; prints its port."""

import socket
import sys

import uvicorn

from hitl_graph.web import create_app
from tests.databases import open_ledger
from tests.web.asking import Named

if __name__ == "__main__":
    with open_ledger(sys.argv[1]) as ledger, socket.create_server(("127.0.0.1", 0)) as listening:
        print(listening.getsockname()[1], flush=True)
        app = create_app(ledger, authenticators=[Named(ledger)])
        uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none")).run(sockets=[listening])
