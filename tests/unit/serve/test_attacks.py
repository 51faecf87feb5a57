"""Requests as an attacker writes them, and what the server itself never does."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from web import Server
from web_runs import make_run

pytestmark = pytest.mark.slow
PIECES = [
    "..",
    ".",
    "%2e%2e",
    "%252e%252e",
    "%c0%ae%c0%ae",
    ";",
    "\\",
    "%5c",
    "%00",
    "//",
    "etc",
    "passwd",
    "~",
    "api",
    "v1",
    "run",
    "logs",
    "static",
    "index.html",
    "x" * 300,
    "\u202e",
    "%F0%9F",
    "%ud800",
    "?",
    "#",
    "name=",
    "&",
    "run.toml",
    "secret",
]


def paths(count: int) -> list[str]:
    chance = random.Random(18)
    return ["/" + "/".join(chance.choices(PIECES, k=chance.randint(1, 6))) for _ in range(count)]


def test_no_path_leads_out_of_the_page(server: Server, runs: Path) -> None:
    (runs.parent / "secret").write_text("the secret")
    with server.connect() as link:
        link.settimeout(60)
        for path in paths(2000):
            line = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {server.token}\r\n\r\n"
            link.sendall(line.encode("utf-8", "surrogatepass"))
            found = link.recv(65536)
            if not found or b"400 Bad Request" in found:  # no HTTP any more: the connection was ended
                link.close()
                link = server.connect()
                continue
            head, _, body = found.partition(b"\r\n\r\n")
            length = int(
                next((one.split(b":")[1] for one in head.lower().split(b"\r\n") if b"content-length" in one), b"0")
            )
            while len(body) < length:
                body += link.recv(65536)
            assert b"the secret" not in body and b"root:" not in body, path
            assert int(head.split()[1]) in (200, 304, 400, 401, 404, 405, 414), (path, head)
    assert server.get("runs")["runs"]


def test_no_name_of_a_run_log_or_checkpoint_leads_out(server: Server) -> None:
    chance = random.Random(19)
    for _ in range(300):
        name = "/".join(chance.choices(PIECES[:14], k=chance.randint(1, 4)))
        for path, query in (
            ("run", {"name": name}),
            ("log", {"name": "measured", "log": name}),
            ("checkpoint", {"name": "measured", "file": name}),
        ):
            status, body = server.ask(f"/api/v1/{path}", **query)
            assert status in (400, 404) and b"root:" not in body, name


AUDITED = """
import sys
def audit(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        print("AUDIT", event, arguments[1:], file=sys.stderr, flush=True)
sys.addaudithook(audit)
from hpcsynapse.cli.main import main
main(sys.argv[1:])
"""


def test_the_server_connects_to_nobody(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", "one")
    (tmp_path / "audited.py").write_text(AUDITED)
    server = Server(tmp_path / "runs", program=[sys.executable, str(tmp_path / "audited.py")])
    for path in ("runs", "sites", "templates", "store", "studies", "nodes", "settings", "openapi.json"):
        server.get(path)
    for path in ("run", "text", "logs", "placement", "curve", "steps", "stragglers", "report", "history"):
        server.get(path, name="one")
    told = [line for line in server.errors().splitlines() if line.startswith("AUDIT")]
    assert told == []
    server.close()


def test_no_secret_is_where_others_can_read_it(server: Server, runs: Path) -> None:
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert server.token not in listed
    with open(f"/proc/{server.process.pid}/environ") as file:  # noqa: PTH123
        assert server.token not in file.read()
    assert server.token not in server.errors()
    for path in runs.rglob("*"):
        assert not path.is_file() or server.token.encode() not in path.read_bytes()


def test_streams_have_a_limit_and_free_their_place(tmp_path: Path) -> None:
    from hpcsynapse.serve.events import MOST_STREAMS

    make_run(tmp_path / "runs", "one")
    server = Server(tmp_path / "runs")
    links = []
    line = f"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {server.token}\r\n\r\n"
    for _ in range(MOST_STREAMS):
        link = server.connect()
        link.sendall(line.encode())
        assert b"200 OK" in link.recv(65536)
        links.append(link)
    assert server.ask("/api/v1/events")[0] == 503
    assert server.get("runs")["runs"]
    for link in links:
        link.shutdown(socket.SHUT_RDWR)
        link.close()
    done = threading.Event()

    def again() -> None:
        while not done.is_set():
            with server.connect() as link:
                link.sendall(line.encode())
                if b"200 OK" in link.recv(65536):
                    done.set()

    threading.Thread(target=again, daemon=True).start()
    assert done.wait(60)
    server.close()


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no /proc here")
def test_requests_leave_no_file_open(server: Server) -> None:
    def count() -> int:
        return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))

    def ask() -> None:
        for path in ("run", "logs", "curve", "steps", "placement", "archive", "timeline"):
            assert server.ask(f"/api/v1/{path}", name="measured")[0] == 200
        server.ask("/api/v1/log", name="measured", log="rank-00000")
        server.ask("/api/v1/checkpoint", name="measured", file="step-000000200.pt")

    ask()
    before = count()
    for _ in range(5):
        ask()
    assert count() <= before + 2
