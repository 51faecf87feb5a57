"""A server of its own for a test in the browser."""

from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from web import Server

AXE = Path(__file__).parents[2] / ".venv" / "browser" / "node_modules" / "axe-core" / "axe.min.js"


class Opener:
    """Opens pages of a server in a browser; keeps what went wrong in them."""

    def __init__(self, browser, server):
        self.browser, self.server, self.problems, self.contexts = browser, server, [], []
        self.changes = 0

    @property
    def origin(self):
        return f"http://localhost:{self.server.target.rpartition(':')[2]}"

    def __call__(self, address="#/runs", *, token=True, **options):
        context = self.browser.new_context(accept_downloads=True, **options)
        context.set_default_timeout(60_000)
        self.contexts.append(context)
        page = context.new_page()
        self.watch(page)
        if token:
            write = f"&write={self.server.write_token}" if self.server.write_token else ""
            self._enter(page, f"{self.origin}/#token={self.server.token}{write}")
        page.goto(f"{self.origin}/{address}")
        return page

    def _enter(self, page, address):
        """Open the page, again where files were not got because another test changed this machine's network."""
        for _ in range(10):
            before = self.changes
            page.goto(address)
            for _ in range(300):
                if page.locator("h1:has-text('Runs')").is_visible():
                    return
                if self.changes != before:
                    break
                page.wait_for_timeout(200)
        raise AssertionError("the list of runs does not appear")

    def _told(self, message):
        if "ERR_NETWORK_CHANGED" in message.text:
            self.changes += 1
        elif message.type == "error":
            self.problems.append(message.text)

    def watch(self, page):
        page.on("console", self._told)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("request", self._request)

    def _request(self, request):
        if urlsplit(request.url).hostname != "localhost" and not request.url.startswith(("data:", "blob:")):
            self.problems.append(f"request to {request.url}")

    def close(self):
        for context in self.contexts:
            context.close()
        assert not self.problems, self.problems


@contextmanager
def opened(browser, runs, *options):
    """Start a server of these runs on a port, and end it; fails on anything in the console of its pages."""
    server = Server(runs, "--port", "0", *options)
    found = Opener(browser, server)
    try:
        yield found
        found.close()
    finally:
        server.close()
