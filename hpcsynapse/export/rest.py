"""Questions and answers in JSON over HTTP, each within a limit of time and size."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any
from urllib import error, parse, request

from hpcsynapse.errors import ExportError, SpecError
from hpcsynapse.files import loads

_SECONDS = 30.0  # for one answer
_LONGEST = 64 << 20  # bytes of an answer
_PIECE = 1 << 16
_SHOWN = 300  # characters of a server's message


class _NoRedirect(request.HTTPRedirectHandler):
    """Follows nobody elsewhere: what is sent, credentials among it, is for the named server alone."""

    def redirect_request(self, *_: Any) -> None:
        """Refuse."""


class RestServer:
    """A server that is asked in JSON; credentials are those that MLflow's own client takes from the environment."""

    def __init__(self, address: str, seconds: float = _SECONDS) -> None:
        parts = parse.urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SpecError(f"{address!r} is no address of a server; write for example http://localhost:5000")
        if parts.username or parts.password:
            raise SpecError(
                "credentials in an address end up in logs; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            )
        self.address, self._seconds = address.rstrip("/"), seconds
        self._opener = request.build_opener(_NoRedirect)

    def post(self, path: str, question: Mapping[str, Any]) -> dict[str, Any]:
        """Send an object and return the answer; raises ExportError with what the server said."""
        return self._ask(path, json.dumps(question, allow_nan=False).encode())

    def get(self, path: str, **query: str) -> dict[str, Any]:
        """Ask and return the answer; raises ExportError with what the server said."""
        return self._ask(f"{path}?{parse.urlencode(query)}", None)

    def _ask(self, path: str, body: bytes | None) -> dict[str, Any]:
        asked = request.Request(f"{self.address}/{path}", body, _headers())  # noqa: S310  http and https alone, see above
        try:
            with self._opener.open(asked, timeout=self._seconds) as answer:
                return _object(self._read(answer))
        except error.HTTPError as refusal:
            with refusal:
                raise _refused(self.address, refusal) from None
        except (OSError, HTTPException, ValueError, RecursionError) as problem:
            why = getattr(problem, "reason", None) or problem
            raise ExportError(f"{self.address}: {str(why)[:_SHOWN]}") from None

    def _read(self, answer: Any) -> bytes:
        """Return a whole answer; raises ValueError for one that is too long or does not come to its end in time."""
        found, end = bytearray(), time.monotonic() + self._seconds
        while piece := answer.read1(_PIECE):
            found += piece
            if len(found) > _LONGEST or time.monotonic() > end:
                raise ValueError("the answer is too long or comes too slowly")
        return bytes(found)


def _object(body: bytes) -> dict[str, Any]:
    value = loads(body.decode("utf-8")) if body.strip() else {}
    if not isinstance(value, dict):
        raise ValueError("the answer is no JSON object: is this the right server?")
    return value


def _headers() -> dict[str, str]:
    found = {"Content-Type": "application/json", "Accept": "application/json"}
    user, password = os.environ.get("MLFLOW_TRACKING_USERNAME"), os.environ.get("MLFLOW_TRACKING_PASSWORD")
    if user and password:
        found["Authorization"] = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    elif token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        found["Authorization"] = f"Bearer {token}"
    return found


def _refused(address: str, refusal: error.HTTPError) -> ExportError:
    """Return the error of an answer that is none, with the code and the message that MLflow gives."""
    text = refusal.read(_PIECE).decode("utf-8", "replace")
    try:
        told = loads(text)
    except (ValueError, RecursionError):
        told = {}
    told = told if isinstance(told, dict) else {}
    words = " ".join(str(told.get("message") or text).split())[:_SHOWN]
    return ExportError(f"{address}: {refusal.code} {refusal.reason}: {words}", str(told.get("error_code", "")))
