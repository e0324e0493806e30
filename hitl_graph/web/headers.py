"""What browsers are told with every answer, also with errors: nothing from elsewhere, in no frame, kept in no cache."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hitl_graph.web.refusing import under_mount

__all__ = ["CONTENT_SECURITY_POLICY", "Headers"]

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_ALWAYS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # Not `no-referrer`: with that, browsers send `Origin: null` with our own forms.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": (
        "accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), magnetometer=(), microphone=(),"
        " midi=(), payment=(), publickey-credentials-get=(), usb=(), xr-spatial-tracking=()"
    ),
}


class Headers:
    """Adds them. The outermost part of the application, so that no answer goes without.

    Args:
        hsts: For how many seconds a browser that came by https is to come by nothing else; 0: leave that to the proxy.
    """

    def __init__(self, app: ASGIApp, *, hsts: int = 31_536_000) -> None:
        self._app, self._hsts = app, hsts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        is_static = under_mount(scope).startswith("/static/")

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _ALWAYS.items():
                    headers[name] = value
                if is_static and message["status"] < 400:
                    headers.setdefault(
                        "cache-control", "no-cache"
                    )  # kept, but looked at again: it may be a new version
                else:
                    headers["cache-control"] = "no-store"
                if self._hsts and scope.get("scheme") == "https":
                    headers["strict-transport-security"] = f"max-age={self._hsts}"
            await send(message)

        await self._app(scope, receive, sent)
