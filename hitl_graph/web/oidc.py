"""Logging in at an identity provider that speaks OpenID Connect: code flow with PKCE, state and nonce, by Authlib."""

import hashlib
import logging
import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

try:
    from authlib.integrations.starlette_client import OAuth, OAuthError  # type: ignore[import-untyped]
except ModuleNotFoundError as exc:
    raise ModuleNotFoundError(
        f"OpenID Connect needs {exc.name}: pip install 'hitl-graph[oidc]'", name=exc.name
    ) from exc
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from hitl_graph.errors import CredentialError
from hitl_graph.ledger import Ledger
from hitl_graph.ledger import credentials as kept
from hitl_graph.ledger.credentials import IDLE, SESSION, Identity
from hitl_graph.reviewers import check_selector, selects
from hitl_graph.web.cookies import is_https, name_of
from hitl_graph.web.login import login_page, place, way_on
from hitl_graph.web.sessions import Sessions

__all__ = ["Oidc"]

log = logging.getLogger(__name__)

_MINUTES = 10
_SIGNED_BY = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Not by a secret that both sides have, and not by nothing."""


class Oidc(Sessions):
    """Sessions that an identity provider opens; login links open them, too.

    Args:
        ledger: Has the sessions.
        issuer: Of the provider, exactly as it names itself; https, unless it is on this machine. It has to have
            `/.well-known/openid-configuration` below it.
        client_id: Which the provider gave to this inbox. `https://HOST/login/oidc/callback` is to be registered there.
        client_secret: As `client_id`; None for a public client.
        people: Who of those whom the provider knows may come in: a selector such as `role:finance`, or a function of
            the claims. `*`: all of them; with a provider for everybody that is everybody.
        name: The claim that becomes the name of a reviewer. An `email` has to be verified.
        roles: The claim with the roles, such as `realm_access.roles`; without `roles` and `groups`, the directory of
            the ledger knows them.
        groups: The claim with the groups.
        admins: A selector of those who get the scope `admin`.
        scopes: What people may do through this door at all.
        ask_for: Scopes to ask the provider for.
        label: What the provider is called on the page of the login.
        lifetime: As of `Sessions`.
        idle: As of `Sessions`.

    Raises:
        ValueError: Something makes no sense.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        issuer: str,
        client_id: str,
        client_secret: str | None,
        people: str | Callable[[Mapping[str, Any]], bool],
        name: str = "email",
        roles: str | None = None,
        groups: str | None = None,
        admins: str | None = None,
        scopes: Collection[kept.Scope] = ("read", "decide"),
        ask_for: str = "openid email profile",
        label: str = "single sign-on",
        lifetime: timedelta = SESSION,
        idle: timedelta = IDLE,
    ) -> None:
        super().__init__(ledger, lifetime=lifetime, idle=idle)
        address = urlsplit(issuer)
        if address.scheme != "https" and address.hostname not in ("localhost", "127.0.0.1", "::1"):
            raise ValueError(f"issuer={issuer!r}: an identity provider has an https address")
        for selector in (people, admins):
            if isinstance(selector, str):
                check_selector(selector)
        if "openid" not in ask_for.split():
            raise ValueError("ask_for= has to have the scope openid")
        self._issuer, self._people, self._admins = issuer, people, admins
        self._name, self._roles, self._groups, self._scopes = name, roles, groups, frozenset(scopes)
        made: Any = OAuth()
        self._client: Any = made.register(
            "hitl",
            client_id=client_id,
            client_secret=client_secret,
            server_metadata_url=issuer.rstrip("/") + "/.well-known/openid-configuration",
            client_kwargs={"scope": ask_for, "code_challenge_method": "S256", "timeout": 10},
        )
        self._client_id = client_id
        key = hashlib.sha256(b"hitl oidc flow\0" + client_secret.encode()).hexdigest() if client_secret else None
        flow = [Middleware(_Flow, key=key or secrets.token_hex(32))]
        self.label, self.route = label, "login_oidc"
        self.routes: list[BaseRoute] = [
            Route("/login/oidc", self._start, name=self.route, middleware=flow),
            Route("/login/oidc/callback", self._end, name="login_oidc_callback", middleware=flow),
        ]

    async def _start(self, request: Request) -> Response:
        try:
            await self._metadata()
            request.session["next"] = place(request.query_params.get("next"))
            back = request.url_for("login_oidc_callback")
            answer: Response = await self._client.authorize_redirect(request, str(back))
        except Exception:
            log.exception("the identity provider %s cannot be used", self._issuer)
            return login_page(request, status=503, problem=f"{self.label} cannot be reached now; try again later.")
        return answer

    async def _end(self, request: Request) -> Response:
        wanted = request.session.pop("next", None)
        try:
            claims = await self._claims(request)
            identity = self._identity(claims)
            response = way_on(request, wanted)
            await self.open(request, response, identity)
        except _NotLetIn as exc:
            log.warning("%s let somebody log in who may not come in: %r", self._issuer, str(exc))
            return login_page(request, status=403, problem=f"{exc}. Nobody was logged in.")
        except Exception as exc:
            log.warning("a login at %s failed: %s: %r", self._issuer, type(exc).__name__, str(exc))
            why = (
                f"{self.label} did not let you in, or what it said cannot be trusted. Nobody was logged in; try again."
            )
            if isinstance(exc, OAuthError) and exc.error == "mismatching_state":
                why = "This login was begun elsewhere, or too long ago. Nobody was logged in; begin again."
            return login_page(request, status=403, problem=why)
        return response

    async def _metadata(self) -> dict[str, Any]:
        """What the provider says of itself, if it is the one that was meant."""
        found: dict[str, Any] = await self._client.load_server_metadata()
        if found.get("issuer") != self._issuer:
            raise ValueError(f"it names itself {found.get('issuer')!r}, which is not the configured issuer")
        offered = found.get("id_token_signing_alg_values_supported") or ["RS256"]
        found["id_token_signing_alg_values_supported"] = [how for how in offered if how in _SIGNED_BY] or ["RS256"]
        return found

    async def _claims(self, request: Request) -> dict[str, Any]:
        metadata = await self._metadata()
        if request.query_params.get("iss", self._issuer) != self._issuer:  # RFC 9207: the answer of another provider
            raise ValueError("the answer comes from another provider")
        token = await self._client.authorize_access_token(
            request,
            claims_options={
                "iss": {"essential": True, "value": self._issuer},
                "aud": {"essential": True, "value": self._client_id},
                "nonce": {"essential": True},
            },
        )
        claims = dict(token["userinfo"])  # of the id token; a missing one raises
        wanted = [path for path in (self._name, self._roles, self._groups) if path is not None]
        if "userinfo_endpoint" in metadata and any(_at(claims, path) is None for path in wanted):
            more = dict(await self._client.userinfo(token=token))
            if more.get("sub") != claims["sub"]:
                raise ValueError("the userinfo is about somebody else")
            claims = more | claims
        return claims

    def _identity(self, claims: Mapping[str, Any]) -> Identity:
        name = _at(claims, self._name)
        if not isinstance(name, str) or not name.strip():
            raise _NotLetIn(f"{self.label} did not say who you are (claim {self._name})")
        if self._name == "email" and claims.get("email_verified") not in (True, "true"):
            raise _NotLetIn(f"{self.label} has not verified your e-mail address")
        roles = groups = None
        if self._roles is not None or self._groups is not None:
            roles, groups = self._listed(claims, self._roles), self._listed(claims, self._groups)
        identity = Identity(name.strip(), roles, groups, self._scopes, via="oidc")
        try:
            reviewer = identity.reviewer(self._ledger.directory)
        except ValueError as exc:
            raise _NotLetIn(f"{self.label} did not say who you are (claim {self._name})") from exc
        may = selects(self._people, reviewer) if isinstance(self._people, str) else self._people(claims) is True
        if not may or reviewer.is_anonymous:
            raise _NotLetIn(f"You are {name}, and may not use this inbox")
        if self._admins is not None and selects(self._admins, reviewer):
            identity = replace(identity, scopes=identity.scopes | {"admin"})
        return identity

    def _listed(self, claims: Mapping[str, Any], path: str | None) -> frozenset[str]:
        value = _at(claims, path) if path else None
        if isinstance(value, str):
            return frozenset([value])
        return frozenset(item for item in value if isinstance(item, str)) if isinstance(value, list) else frozenset()


class _NotLetIn(CredentialError):
    """Somebody whom the provider knows, and who may not come in."""


class _Flow:
    """Keeps, for the minutes of a login, what belongs to it: in a signed cookie of the browser that began it."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app, self._key = app, key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = HTTPConnection(scope)
        inner = SessionMiddleware(
            self._app,
            secret_key=self._key,
            session_cookie=name_of(connection, "oidc"),
            max_age=_MINUTES * 60,
            path="/",
            same_site="lax",
            https_only=is_https(connection),
        )
        await inner(scope, receive, send)


def _at(claims: Mapping[str, Any], path: str) -> Any:
    """A claim by its name, or by a path such as `realm_access.roles`."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for part in path.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found
