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

    @property
    def origin(self):
        return f"http://localhost:{self.server.target.rpartition(':')[2]}"

    def __call__(self, address="#/runs", *, token=True, **options):
        context = self.browser.new_context(accept_downloads=True, **options)
        context.set_default_timeout(20_000)
        self.contexts.append(context)
        page = context.new_page()
        self.watch(page)
        if token:
            write = f"&write={self.server.write_token}" if self.server.write_token else ""
            page.goto(f"{self.origin}/#token={self.server.token}{write}")
            page.wait_for_selector("h1:has-text('Runs')")
        page.goto(f"{self.origin}/{address}")
        return page

    def watch(self, page):
        page.on("console", lambda told: self.problems.append(told.text) if told.type == "error" else None)
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
