"""An HTTP proxy that forwards requests and then does to their answers what networks do."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Request:
    """A request as it came over the wire."""

    method: str
    target: str

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.target).query)

    @property
    def is_write(self) -> bool:
        return self.method != "GET"


@dataclass(frozen=True)
class Drop:
    """Forward the request, then close the connection without an answer."""


@dataclass(frozen=True)
class Answer:
    """Answer in the service's place; the request goes nowhere."""

    status: int
    body: bytes = b"{}"


@dataclass(frozen=True)
class Tamper:
    """Forward the request and spoil the body of its answer."""


@dataclass
class Hold:
    """Forward the request, say that it `arrived`, and keep its answer until `released`."""

    arrived: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)


Rule = Drop | Answer | Tamper | Hold


class Proxy:
    """What the proxy saw, and what it is to do with the next requests that match."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.requests: list[Request] = []
        self._rules: list[tuple[Callable[[Request], bool], Rule]] = []
        self._lock = threading.Lock()
        self.url = ""

    @property
    def writes(self) -> list[Request]:
        return [request for request in self.requests if request.is_write]

    def next_write(self, rule: Rule) -> None:
        """Apply `rule` to the next request that changes something."""
        self._rules.append((lambda request: request.is_write, rule))

    def next_read(self, rule: Rule) -> None:
        """Apply `rule` to the next GET."""
        self._rules.append((lambda request: not request.is_write, rule))

    def rule_for(self, request: Request) -> Rule | None:
        with self._lock:
            self.requests.append(request)
            for index, (matches, rule) in enumerate(self._rules):
                if matches(request):
                    del self._rules[index]
                    return rule
        return None


@contextmanager
def running_proxy(upstream: str) -> Iterator[Proxy]:
    """Run a proxy in front of `upstream`, `host:port`."""
    proxy = Proxy(upstream)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            rule = proxy.rule_for(Request(self.command, self.path))
            if isinstance(rule, Answer):
                self._reply(rule.status, {"Content-Type": "application/json"}, rule.body)
                return
            onward = http.client.HTTPConnection(proxy.upstream)
            headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
            onward.request(self.command, self.path, body, headers)
            answer = onward.getresponse()
            data = answer.read()
            onward.close()
            if isinstance(rule, Drop):
                self.close_connection = True
                return
            if isinstance(rule, Hold):
                rule.arrived.set()
                rule.released.wait(30)
            if isinstance(rule, Tamper):
                data = data[:-1] + bytes([data[-1] ^ 1])
            self._reply(answer.status, dict(answer.getheaders()), data)

        do_GET = do_POST = do_PUT = do_DELETE = _any

        def _reply(self, status: int, headers: dict[str, str], data: bytes) -> None:
            self.send_response_only(status)
            for name, value in headers.items():
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value.replace(proxy.upstream, urlsplit(proxy.url).netloc))
            if status != 204:
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if status != 204:
                self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            return None

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            return None  # a client that went away is what some tests are about

    server = Server(("127.0.0.1", 0), Handler)
    proxy.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
