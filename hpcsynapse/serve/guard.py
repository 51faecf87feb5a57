"""Who may ask: one check before everything else, for every method and path alike.

Both ends are guarded. On the login node the socket lies in a private folder, and a token is asked for all the same. On
the user's own machine `ssh -L` puts the page on localhost, where scripts of any web site can send requests to: so the
name asked for must be localhost itself (a site that has its name point there is refused), and a request must not come
from a page elsewhere. What browsers say of where a request comes from is used, never what they say they are.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

API = "/api/"
SESSION = "/api/v1/session"  # where a token is exchanged for a cookie
WRITE_HEADER = b"x-hpcsynapse-token"
_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_METHODS = frozenset({"GET", "HEAD", "POST"})
_SITES = frozenset({b"same-origin", b"none"})
_COOKIES = 64  # of a request that are looked at
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
)
_HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin-allow-popups"),  # the trace is handed over to a window of its own
)


class Keys:
    """The secrets of one life of a server; they are in its memory and in a file that ends with it."""

    def __init__(self, actions: bool) -> None:
        self.token, self.write_token = secrets.token_urlsafe(24), secrets.token_urlsafe(24) if actions else ""
        self.cookie = f"hpcsynapse-{secrets.token_hex(4)}"  # cookies know no ports: another server has another name
        self._session = secrets.token_urlsafe(24)

    def new_session(self, token: str) -> str | None:
        """Return the header that sets the cookie, for who knows the token; else None."""
        if not _equal(token, self.token):
            return None
        return f"{self.cookie}={self._session}; Path=/; HttpOnly; SameSite=Strict"

    def may_read(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Tell whether a request carries the cookie, or the token itself as programs send it."""
        for name, value in headers:
            if name == b"authorization" and _equal(value.removeprefix(b"Bearer ").decode("latin-1"), self.token):
                return True
            if name == b"cookie":
                for part in value.split(b";", _COOKIES)[:_COOKIES]:
                    key, _, text = part.strip().partition(b"=")
                    if key.decode("latin-1") == self.cookie and _equal(text.decode("latin-1"), self._session):
                        return True
        return False

    def may_write(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Tell whether a request that may read carries the token for actions too, in a header of its own."""
        given = [value for name, value in headers if name == WRITE_HEADER]
        return bool(self.write_token) and len(given) == 1 and _equal(given[0].decode("latin-1"), self.write_token)


class Guard:
    """The outermost application: what it refuses, nothing else sees; it also keeps when the page was last used."""

    def __init__(self, application: Application, keys: Keys) -> None:
        self._application, self._keys = application, keys
        self.used = time.monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request, with a status and nothing else, or pass it on."""
        if scope["type"] == "lifespan":
            await self._application(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        refused = refusal(scope, self._keys)
        if refused:
            await send(
                {"type": "http.response.start", "status": refused, "headers": [*_HEADERS, (b"content-length", b"0")]}
            )
            await send({"type": "http.response.body", "body": b""})
            return
        self.used = time.monotonic()

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {name for name, _ in message["headers"]}
                added = [pair for pair in _HEADERS if pair[0] not in own]
                kept = [] if b"cache-control" in own else [(b"cache-control", b"no-store")]
                message = {**message, "headers": [*message["headers"], *added, *kept]}
            self.used = time.monotonic()  # also while a stream of events goes on
            await send(message)

        await self._application(scope, receive, send_with_headers)


def refusal(scope: Scope, keys: Keys) -> int:
    """Return the status with which a request is refused, or 0: method, host, where it comes from, then the secrets."""
    headers: list[tuple[bytes, bytes]] = list(scope["headers"])
    path, method = scope["path"], scope["method"]
    if method not in _METHODS:
        return 405
    hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
    if len(hosts) != 1 or _without_port(hosts[0]) not in _NAMES:
        return 421
    if not path.startswith("/"):
        return 400
    if any(value not in _SITES for name, value in headers if name == b"sec-fetch-site"):
        return 403
    origins = [value.decode("latin-1") for name, value in headers if name == b"origin"]
    if any(origin != f"http://{hosts[0]}" for origin in origins):
        return 403
    if not path.startswith(API):
        return 405 if method == "POST" else 0
    if path == SESSION:
        return 0 if method == "POST" else 405
    if not keys.may_read(headers):
        return 401
    return 403 if method == "POST" and not keys.may_write(headers) else 0


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isascii() and port.isdigit() and len(port) < 6 else host


def _equal(given: str, secret: str) -> bool:
    return bool(secret) and secrets.compare_digest(given.encode(), secret.encode())
