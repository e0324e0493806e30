"""An identity provider that speaks OpenID Connect over HTTP, and can be told to misbehave."""

import base64
import hashlib
import secrets
import time
from typing import Any
from urllib.parse import urlencode

from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

CLIENT, SECRET = "hitl-inbox", "a secret of the client"


class Provider:
    """Lets everybody in as whom `claims` says; `lies` changes what it signs, or how.

    Attributes:
        base: Its address, which is its name.
        asked: Parameters of each request for a login.
    """

    def __init__(self) -> None:
        self.base = ""
        self.claims: dict[str, Any] = {}
        self.userinfo: dict[str, Any] = {}
        self.lies: dict[str, Any] = {}
        self.asked: list[dict[str, str]] = []
        self._codes: dict[str, dict[str, str]] = {}
        self._key = RSAKey.generate_key(2048, {"kid": "one", "use": "sig"})
        self.app = Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._metadata),
                Route("/jwks", self._jwks),
                Route("/authorize", self._authorize),
                Route("/token", self._token, methods=["POST"]),
                Route("/userinfo", self._userinfo),
            ]
        )

    def behave(self, **claims: Any) -> None:
        self.claims, self.userinfo, self.lies = {"sub": "u1", **claims}, {}, {}
        self.asked.clear()

    async def _metadata(self, request: Request) -> Response:
        if self.lies.get("down"):
            return Response(status_code=500)
        return JSONResponse(
            {
                "issuer": self.lies.get("issuer", self.base),
                "authorization_endpoint": f"{self.base}/authorize",
                "token_endpoint": f"{self.base}/token",
                "jwks_uri": f"{self.base}/jwks",
                "userinfo_endpoint": f"{self.base}/userinfo",
                "id_token_signing_alg_values_supported": ["none", "HS256", "RS256"],
                "token_endpoint_auth_methods_supported": ["client_secret_basic"],
            }
        )

    async def _jwks(self, request: Request) -> Response:
        return JSONResponse({"keys": [self._key.as_dict(private=False)]})

    async def _authorize(self, request: Request) -> Response:
        asked = dict(request.query_params)
        self.asked.append(asked)
        code = secrets.token_urlsafe()
        self._codes[code] = asked
        answer = {"code": code, "state": asked["state"], "iss": self.base} | self.lies.get("answer", {})
        return RedirectResponse(f"{asked['redirect_uri']}?{urlencode(answer)}", 302)

    async def _token(self, request: Request) -> Response:
        async with request.form() as form:
            sent = {name: str(value) for name, value in form.items()}
        asked = self._codes.pop(sent.get("code", ""), None)
        basic = base64.b64encode(f"{CLIENT}:{SECRET}".replace(" ", "%20").encode()).decode()
        plain = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        challenge = base64.urlsafe_b64encode(hashlib.sha256(sent.get("code_verifier", "").encode()).digest())
        is_client = request.headers.get("authorization") in (f"Basic {basic}", f"Basic {plain}")
        if (
            asked is None
            or not is_client
            or challenge.decode().rstrip("=") != asked["code_challenge"]
            or sent.get("redirect_uri") != asked["redirect_uri"]
        ):
            return JSONResponse({"error": "invalid_grant"}, 400)
        now = int(time.time())
        claims = {"iss": self.base, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": asked["nonce"]}
        claims |= self.claims | self.lies.get("claims", {})
        answer = {"access_token": secrets.token_urlsafe(), "token_type": "Bearer", "id_token": self._signed(claims)}
        if self.lies.get("no id token"):
            del answer["id_token"]
        return JSONResponse(answer)

    def _signed(self, claims: dict[str, Any]) -> str:
        how = self.lies.get("signed")
        if how == "none":
            parts = (
                base64.urlsafe_b64encode(str(part).replace("'", '"').encode()) for part in ({"alg": "none"}, claims)
            )
            return ".".join(part.decode().rstrip("=") for part in parts) + "."
        if how == "HS256":
            return jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(SECRET))
        key = RSAKey.generate_key(2048, {"kid": "one"}) if how == "other key" else self._key
        token = jwt.encode({"alg": "RS256", "kid": "one"}, claims, key)
        if how == "changed":
            head, body, seal = token.split(".")
            return f"{head}.{body[:-2]}{'AA' if body[-2:] != 'AA' else 'BB'}.{seal}"
        return token

    async def _userinfo(self, request: Request) -> Response:
        return JSONResponse({"sub": "u1", **self.userinfo})
