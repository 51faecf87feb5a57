"""What is refused before anything else sees it: methods, names of hosts, pages elsewhere, requests without secrets."""

from __future__ import annotations

import json
import socket
import threading
import time
from typing import Any

import pytest
from web import Server

from hpcsynapse.serve.application import application
from hpcsynapse.serve.guard import Keys, refusal
from hpcsynapse.serve.index import RunIndex
from hpcsynapse.serve.openapi import document
from hpcsynapse.serve.static_files import static_files

PATHS = list(document()["paths"])
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "FOO"]


def asked(path: str = "/api/v1/runs", method: str = "GET", **headers: Any) -> dict[str, Any]:
    given = {"host": "localhost:8642", **headers}
    found = []
    for name, value in given.items():
        for one in value if isinstance(value, list) else [value]:
            found.append((name.replace("_", "-").encode(), one.encode("latin-1")))
    return {"type": "http", "path": path, "method": method, "headers": [pair for pair in found if pair[1] != b"-"]}


@pytest.mark.parametrize("method", METHODS)
def test_without_a_token_no_path_answers_any_method(server: Server, method: str) -> None:
    for path in [*PATHS, "/api/v1/absent", "/api/"]:
        status, body = server.ask(path, method=method, token="")
        assert status == (401 if method in ("GET", "HEAD", "POST") else 405), path
        assert body == b""


def test_the_application_has_no_path_that_the_table_does_not_name(tmp_path: Any) -> None:
    app: Any = application(RunIndex(tmp_path), Keys(actions=False))._application
    pages = {"/" if name == "index.html" else f"/{name}" for name in static_files()}
    assert {route.path for route in app.routes} == {*PATHS, *pages, "/api/v1/session"}


HOSTS = [
    ("localhost", 0),
    ("localhost:8642", 0),
    ("127.0.0.1:1", 0),
    ("[::1]:8642", 0),
    ("[::1]", 0),
    ("evil.com", 421),
    ("localhost.evil.com", 421),
    ("evil.com:localhost", 421),
    ("0.0.0.0", 421),
    ("", 421),
    ("[::]", 421),
    ("::1", 421),
    ("localhost:", 421),
    ("localhost:x", 421),
    ("localhost:123456", 421),
    ("LOCALHOST", 421),
    ("localhost, evil.com", 421),
    ("127.0.0.1.nip.io", 421),
    ("[::ffff:127.0.0.1]", 421),
    (["localhost", "localhost"], 421),
    (["localhost", "evil.com"], 421),
]


@pytest.mark.parametrize(("host", "status"), HOSTS, ids=str)
def test_only_this_machine_itself_is_asked_for(host: Any, status: int) -> None:
    keys = Keys(actions=False)
    assert refusal(asked(host=host, authorization=f"Bearer {keys.token}"), keys) == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec_fetch_site": "same-origin"}, 0),
        ({"sec_fetch_site": "none"}, 0),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"sec_fetch_site": "same-site"}, 403),
        ({"sec_fetch_site": ["same-origin", "cross-site"]}, 403),
        ({"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors"}, 403),
        ({"sec_fetch_site": "cross-site", "user_agent": "curl/8"}, 403),
        ({"origin": "http://localhost:8642"}, 0),
        ({"origin": "http://localhost:9999"}, 403),
        ({"origin": "https://localhost:8642"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://evil.com"}, 403),
        ({"origin": "http://localhost:8642.evil.com"}, 403),
    ],
    ids=str,
)
def test_what_comes_from_a_page_elsewhere_is_refused(headers: dict[str, Any], status: int) -> None:
    keys = Keys(actions=False)
    assert refusal(asked(authorization=f"Bearer {keys.token}", **headers), keys) == status


def test_reading_is_not_writing_and_a_cookie_alone_writes_nothing() -> None:
    keys = Keys(actions=True)
    cookie = (keys.new_session(keys.token) or "").partition(";")[0]
    assert refusal(asked(cookie=cookie), keys) == 0
    assert refusal(asked(cookie=f"other=1; {cookie}; more=2"), keys) == 0
    assert refusal(asked(cookie=f"x{cookie}"), keys) == 401
    assert refusal(asked(cookie=f"{cookie}x"), keys) == 401
    assert refusal(asked(method="POST", cookie=cookie), keys) == 403
    assert refusal(asked(method="POST", cookie=cookie, x_hpcsynapse_token=keys.token), keys) == 403
    assert refusal(asked(method="POST", x_hpcsynapse_token=keys.write_token), keys) == 401
    assert refusal(asked(method="POST", cookie=cookie, x_hpcsynapse_token=[keys.write_token] * 2), keys) == 403
    assert refusal(asked(method="POST", cookie=cookie, x_hpcsynapse_token=keys.write_token), keys) == 0
    reading = Keys(actions=False)
    assert refusal(asked(method="POST", authorization=f"Bearer {reading.token}", x_hpcsynapse_token=""), reading) == 403
    assert keys.new_session("") is None and keys.new_session("x" * 32) is None


def test_a_token_becomes_a_cookie_that_no_script_reads(server: Server) -> None:
    body = json.dumps({"token": server.token}).encode()
    head, _ = server.raw(
        b"POST /api/v1/session HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        + f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    (cookie,) = [line for line in head.split("\r\n") if line.lower().startswith("set-cookie:")]
    assert cookie.endswith("; Path=/; HttpOnly; SameSite=Strict") and "Domain" not in cookie
    pair = cookie.split(": ", 1)[1].partition(";")[0]
    assert server.ask("/api/v1/runs", token="", headers=[f"Cookie: {pair}"])[0] == 200
    for wrong in (b'{"token": "x"}', b'{"token": 1}', b"[]", b"{", b"", b"[" * 60000):
        assert server.ask("/api/v1/session", method="POST", token="", body=wrong)[0] in (400, 401)
    assert server.ask("/api/v1/session", method="POST", token="", body=b"x" * 70000)[0] == 400


def test_every_answer_keeps_browsers_from_guessing_and_none_opens_to_others(server: Server) -> None:
    for path in ("/", "/api/v1/runs", "/absent", "/api/v1/absent"):
        head, _ = server.raw(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {server.token}\r\n"
            "Origin: http://localhost\r\nConnection: close\r\n\r\n"
        )
        lines = {line.partition(":")[0].lower(): line.partition(": ")[2] for line in head.split("\r\n")[1:]}
        assert "unsafe" not in lines["content-security-policy"]
        assert lines["content-security-policy"].startswith("default-src 'none'")
        assert lines["x-content-type-options"] == "nosniff" and lines["referrer-policy"] == "no-referrer"
        assert not [name for name in lines if name.startswith("access-control-") or name == "server"]
        assert lines["cache-control"] in ("no-store", "no-cache")


def test_absolute_targets_several_hosts_and_websockets_get_nothing(server: Server) -> None:
    token = f"Authorization: Bearer {server.token}\r\nConnection: close\r\n"
    for request in (
        f"GET http://evil.com/api/v1/runs HTTP/1.1\r\nHost: localhost\r\n{token}\r\n",
        f"GET /api/v1/runs HTTP/1.1\r\nHost: localhost\r\nHost: evil.com\r\n{token}\r\n",
        f"GET /api/v1/runs HTTP/1.0\r\n{token}\r\n",
        "GET /api/v1/runs HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
    ):
        head, body = server.raw(request)
        assert 400 <= int(head.split()[1]) < 500 and b"runs" not in body, request


def test_floods_are_answered_at_once_and_others_are_served(server: Server) -> None:
    ranges = "Range: bytes=" + ",".join("0-" for _ in range(10_000))
    for headers in ([ranges], ["Accept: " + "text/html;q=0.1," * 2000], ["Cookie: " + "a=b; " * 8000]):
        assert server.ask("/api/v1/runs", headers=headers)[0] == 200
    assert server.ask("/api/v1/runs", headers=[f"X-{n}: {'x' * 1000}" for n in range(200)])[0] < 500
    assert server.ask("/api/v1/runs", name="x" * 5000)[0] == 414
    slow = [server.connect() for _ in range(200)]
    for link in slow:
        link.sendall(b"GET /api/v1/runs HTTP/1.1\r\nHost:")
    assert server.get("runs")["runs"]
    for link in slow:
        link.close()


def test_a_request_without_end_holds_nobody_up(server: Server) -> None:
    link = server.connect()
    link.sendall(b"POST /api/v1/session HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{")
    done = threading.Event()
    threading.Thread(target=lambda: (server.get("runs"), done.set()), daemon=True).start()
    assert done.wait(30)
    link.shutdown(socket.SHUT_RDWR)
    link.close()
    time.sleep(0.1)
    assert server.get("runs")["runs"]
