"""`hitl serve`: the inbox as a web page, its API, and the worker, in one process."""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from importlib import import_module
from ipaddress import ip_network
from threading import Thread
from types import FrameType
from typing import Annotated, Any, NamedTuple
from urllib.parse import urlsplit

import typer

from hitl_graph.cli import app as shared
from hitl_graph.cli import views
from hitl_graph.cli.app import FAILED, USAGE, As, Command, Db, Failure, app, note, open_ledger, reviewer_name
from hitl_graph.cli.working import attached, load_graph
from hitl_graph.ledger import Ledger
from hitl_graph.ledger.credentials import LINK, SCOPES, Identity, issue

__all__: list[str] = []

_LOOPBACK, _EVERYWHERE = ("127.0.0.1", "::1", "localhost"), ("0.0.0.0", "::")
_MINUTES = LINK // timedelta(minutes=1)


@app.command(cls=Command)
def serve(
    ctx: typer.Context,
    graph: Annotated[
        str | None,
        typer.Argument(metavar="[MODULE:GRAPH]", help="Whose decisions are carried out here; none: only the inbox."),
    ] = None,
    db: Db = "agent.db",
    host: Annotated[str, typer.Option("--host", help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0: any that is free.")] = 8400,
    url: Annotated[
        str | None, typer.Option("--url", metavar="URL", help="Its address for people, where a proxy is in front.")
    ] = None,
    proxies: Annotated[
        list[str] | None,
        typer.Option("--trust-proxy", metavar="NETWORK", help="A proxy there says who comes. May be given again."),
    ] = None,
    header: Annotated[
        str, typer.Option("--proxy-header", metavar="NAME", help="In which header it says so.")
    ] = "x-forwarded-user",
    issuer: Annotated[
        str | None,
        typer.Option("--oidc", envvar="HITL_OIDC_ISSUER", metavar="URL", help="An OpenID Connect provider."),
    ] = None,
    client: Annotated[
        str,
        typer.Option("--oidc-client", envvar="HITL_OIDC_CLIENT", metavar="ID", help="Its id of this inbox."),
    ] = "",
    people: Annotated[
        str | None,
        typer.Option("--oidc-people", metavar="SELECTOR", help="Who of its people may come in; * for all of them."),
    ] = None,
    roles: Annotated[
        str | None, typer.Option("--oidc-roles", metavar="CLAIM", help="The claim that has their roles.")
    ] = None,
    mine: Annotated[bool, typer.Option("--mine", help="People see only what concerns them.")] = False,
    reviewer: As = None,
) -> None:
    """Open the inbox in the browser: look, decide, and have it carried out.

    Prints a link that logs you in once. Runs until SIGTERM or Ctrl-C. The secret of --oidc-client, where it has one, is
    in HITL_OIDC_SECRET.
    """
    _needs_web()
    _check_url(url, proxies or [])
    source = ctx.get_parameter_source("db")
    explicit = source is not None and source.name == "COMMANDLINE"
    named = db if explicit or (source is not None and source.name == "ENVIRONMENT") else None
    with ExitStack() as stack:
        if graph is None:
            found, ledger = None, stack.enter_context(open_ledger(db))
        else:
            found, ledger = stack.enter_context(attached(load_graph(graph), named, explicit=explicit))
        listening = stack.enter_context(_listening(host, port))
        at = url or f"http://{_shown(host)}:{listening.getsockname()[1]}"
        entrance = _entrance(
            ledger, proxies or [], header, _Provider(issuer, client, people, roles) if issuer else None
        )
        application = _application(ledger, at, host, proxies or [], entrance, mine)
        if found is not None:
            stack.enter_context(_working(found, ledger))
        note(f"Inbox of {ledger.database.url}" + (f", worker for {graph}" if graph else "") + ". Ctrl-C ends it.")
        if host not in _LOOPBACK and not at.startswith("https:"):
            note("Everybody on the network can read along: put a proxy with TLS in front, and give --url https://...")
        who = reviewer_name(reviewer)
        note(f"Open {_login_link(ledger, at, who)}")
        note(f"It lets you in as {views.visible(who)}, once, within {_MINUTES} minutes.")
        _serve(application, listening)


def _needs_web() -> None:
    """Refuse where the extra is not installed."""
    try:
        import_module("hitl_graph.web")
    except ModuleNotFoundError as exc:
        raise Failure(USAGE, f"{exc.name} is not installed; pip install 'hitl-graph[web]'") from exc


def _check_url(url: str | None, proxies: list[str]) -> None:
    if url is not None and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname):
        raise Failure(USAGE, f"--url takes the whole address, such as https://inbox.example.com, not {url!r}")
    for proxy in proxies:
        if proxy == "unix":
            continue
        try:
            ip_network(proxy)
        except ValueError as exc:
            raise Failure(USAGE, f"--trust-proxy takes an address or a network such as 10.0.0.0/8: {exc}") from None


class _Provider(NamedTuple):
    """An identity provider."""

    issuer: str
    client: str
    people: str | None
    roles: str | None


def _entrance(ledger: Ledger, proxies: list[str], header: str, provider: _Provider | None) -> list[Any]:
    """Who is believed to be whom: programs with a token, whom a proxy names, whoever has logged in."""
    from hitl_graph.web.sessions import Sessions
    from hitl_graph.web.tokens import ApiTokens
    from hitl_graph.web.visitors import TrustedProxy

    trusted = [TrustedProxy(header, proxies=proxies, directory=ledger.directory)] if proxies else []
    return [ApiTokens(ledger), *trusted, Sessions(ledger) if provider is None else _oidc(ledger, provider)]


def _oidc(ledger: Ledger, provider: _Provider) -> Any:
    if not provider.client or not provider.people:
        raise Failure(USAGE, "--oidc needs --oidc-client ID, and --oidc-people SELECTOR (* for all of its people)")
    try:
        from hitl_graph.web.oidc import Oidc
    except ModuleNotFoundError as exc:
        raise Failure(USAGE, f"{exc.name} is not installed; pip install 'hitl-graph[oidc]'") from exc
    try:
        return Oidc(
            ledger, issuer=provider.issuer, client_id=provider.client, people=provider.people, roles=provider.roles,
            client_secret=os.environ.get("HITL_OIDC_SECRET"),
        )  # fmt: skip
    except ValueError as exc:
        raise Failure(USAGE, f"--oidc: {exc}") from exc


def _application(ledger: Ledger, url: str, host: str, proxies: list[str], entrance: list[Any], mine: bool) -> Any:
    from hitl_graph.web import create_app
    from hitl_graph.web.security import Security

    names = {*_LOOPBACK, host, _name_of(host), urlsplit(url).hostname or ""} - {"", *_EVERYWHERE}
    security = Security(hosts=sorted(names), proxies=proxies)
    return create_app(ledger, authenticators=entrance, security=security, sees="mine" if mine else "all")


def _login_link(ledger: Ledger, url: str, name: str) -> str:
    """An address that lets in whoever started the server, once."""
    whom = Identity(name, scopes=frozenset(SCOPES))
    secret, _ = ledger.write(issue, ledger.now_ms(), "link", whom, by=name, lifetime=LINK)
    return f"{url.rstrip('/')}/login/{secret}"


@contextmanager
def _listening(host: str, port: int) -> Generator[socket.socket]:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as exc:
        hint = "; is it running already? --port 0 takes any free one" if port else ""
        raise Failure(FAILED, f"cannot listen at {host}, port {port}: {exc.strerror or exc}{hint}") from exc
    with listening:
        yield listening


def _name_of(host: str) -> str:
    return socket.gethostname() if host in _EVERYWHERE else host


def _shown(host: str) -> str:
    name = _name_of(host)
    return f"[{name}]" if ":" in name else name


@contextmanager
def _working(graph: Any, ledger: Ledger) -> Generator[None]:
    """A worker in a thread of its own: a graph that blocks its event loop does not block the pages."""
    from hitl_graph.worker import Resumed, Worker

    def tell(result: Resumed) -> None:
        why = f": {type(result.error).__name__}: {views.visible(str(result.error))}" if result.error else ""
        note(f"{views.clock(ledger.clock())}  {result.status:<8}  thread {views.visible(result.thread_id)}{why}")

    if not shared.debugging():  # each failure is one line of ours, here
        logging.getLogger("hitl_graph.worker").setLevel(logging.CRITICAL)
    worker = Worker(graph, ledger, on_resumed=tell)
    thread = Thread(target=lambda: asyncio.run(worker.arun()), name="hitl-worker")
    thread.start()
    try:
        yield
    finally:
        worker.stop()
        if thread.is_alive():
            thread.join(0.5)
        if thread.is_alive():
            note("The worker is still at a thread; waiting until it is done.")
        thread.join()


def _serve(application: Any, listening: socket.socket) -> None:
    import uvicorn

    class Server(uvicorn.Server):
        """Leaves signals to us: uvicorn's own handling ends the process before the worker is done."""

        @contextmanager
        def capture_signals(self) -> Generator[None]:
            yield

    settings = uvicorn.Config(
        application, log_level="warning", access_log=False, ws="none", proxy_headers=False, server_header=False,
        timeout_graceful_shutdown=3,
    )  # fmt: skip
    server = Server(settings)

    def stop(number: int, frame: FrameType | None) -> None:
        server.handle_exit(number, frame)
        signal.signal(number, signal.SIG_DFL)  # the second one is obeyed at once

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        server.run(sockets=[listening])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
