"""A server of the web page as a user starts it, and requests to it that may be as wrong as one likes."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlencode


class Server:
    """`hpcsynapse serve` of a folder, on its socket or a port, until `close`."""

    def __init__(self, runs, *options, home=None, prefix=(), program=(sys.executable, "-m", "hpcsynapse")):
        self.home = Path(home or tempfile.mkdtemp(prefix="hs-", dir="/tmp"))  # short, for the socket's path
        self.home.chmod(0o700)
        self._own = home is None
        self.environment = {**os.environ, "XDG_RUNTIME_DIR": str(self.home), "XDG_STATE_HOME": str(self.home / "state")}
        self.command = [*program, "serve", "--runs", str(runs), *options]
        self._errors = (self.home / "errors").open("w+")
        self.process = subprocess.Popen(
            [*prefix, *self.command], env=self.environment, stdout=subprocess.PIPE, stderr=self._errors, text=True
        )
        self.printed = [self.process.stdout.readline() for _ in range(2)]
        if not all(self.printed):
            raise AssertionError(self.errors())
        self.target = self.printed[0].split(" -L ")[1].split(" ")[0].partition(":")[2]
        secrets = dict(part.split("=") for part in self.printed[1].split("#")[1].strip().split("&"))
        self.token, self.write_token = secrets["token"], secrets.get("write", "")

    def errors(self):
        self._errors.seek(0)
        return self._errors.read()

    def connect(self):
        if self.target.startswith("/"):
            found = socket.socket(socket.AF_UNIX)
            found.settimeout(30)
            found.connect(self.target)
            return found
        host, _, port = self.target.rpartition(":")
        return socket.create_connection((host, int(port)), 30)

    def raw(self, text):
        """Send bytes and return all that is answered until the server closes, or one answer is whole."""
        with self.connect() as link:
            link.sendall(text if isinstance(text, bytes) else text.encode())
            found = b""
            while b"\r\n\r\n" not in found and (part := link.recv(65536)):
                found += part
            head, _, body = found.partition(b"\r\n\r\n")
            length = [
                int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line[:15] == b"content-length:"
            ]
            while length and len(body) < length[0] and (part := link.recv(65536)):
                body += part
        return head.decode("latin-1"), body

    def ask(self, path, *, method="GET", host="localhost", token=None, headers=(), body=b"", **query):
        """Return status and body of a request, with the token unless told otherwise."""
        target = f"{path}?{urlencode(query, doseq=True)}" if query else path
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Connection: close"]
        token = self.token if token is None else token
        lines += [f"Authorization: Bearer {token}"] if token else []
        lines += [f"Content-Length: {len(body)}"] if body else []
        head, found = self.raw("\r\n".join([*lines, *headers, "", ""]).encode("latin-1") + body)
        return int(head.split()[1]), found

    def get(self, path, **query):
        """Return the answer of the API as values; it has to be 200."""
        status, body = self.ask(f"/api/v1/{path}", **query)
        assert status == 200, body
        return json.loads(body)

    def close(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(20)
        self.process.stdout.close()
        self._errors.close()
        if self._own:
            shutil.rmtree(self.home)
        return code


def wait_for_end(process, limit=60):
    end = time.monotonic() + limit
    while process.poll() is None:
        assert time.monotonic() < end, "the server goes on"
        time.sleep(0.05)
    return process.returncode
