"""What goes wrong between Windlass and a cloud: HTTP in front of moto that refuses, delays, forgets to answer, hides.

Which fault a request meets hangs on the seed, on what is asked of which resource, and on how often that was asked:
not on the order in which threads come, so that a seed gives the same faults again. `Proxy.calls` keeps each mutating
call, so that a test can count what was really done twice.
"""

from __future__ import annotations

import http.client
import random
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit
from xml.etree import ElementTree

READS = ("Describe", "List", "Get")
SILENCE_SECONDS = 3.0  # longer than any client waits in scaled time
WHO = "User: arn:aws:iam::123456789012:user/windlass is not authorized to perform: {service}:{action} on resource: *"
ENCODED = "You are not authorized to perform this operation. Encoded authorization failure message: aGVsbG8gdGhlcmU"
# what is answered instead of acting, by the fault's name: status, code, message, headers; real EC2's own statuses
ANSWERS: dict[str, tuple[int, str, str, dict[str, str]]] = {
    "throttled": (503, "RequestLimitExceeded", "Request limit exceeded.", {}),
    "throttled, with a time": (429, "RequestLimitExceeded", "Request limit exceeded.", {"Retry-After": "1"}),
    "failed before acting": (500, "InternalError", "An internal error has occurred", {}),
    "no capacity": (500, "InsufficientInstanceCapacity", "We currently do not have sufficient capacity.", {}),
    "no quota": (400, "VcpuLimitExceeded", "You have requested more vCPU capacity than your limit.", {}),
    "no permission": (403, "UnauthorizedOperation", WHO + " because no identity-based policy allows it.", {}),
    "no permission, encoded": (403, "UnauthorizedOperation", ENCODED, {}),
    "credentials expired": (401, "AuthFailure", "AWS was not able to validate the provided access credentials", {}),
    "in use": (400, "DependencyViolation", "The resource has a dependent object", {}),
}
IAM_CODES = {"RequestLimitExceeded": "Throttling", "UnauthorizedOperation": "AccessDenied"}
# where the answer of a look has its things, and what they are called by
LISTED = {
    "DescribeVpcs": "vpcId",
    "DescribeSubnets": "subnetId",
    "DescribeInternetGateways": "internetGatewayId",
    "DescribeRouteTables": "routeTableId",
    "DescribeSecurityGroups": "groupId",
    "DescribeInstances": "instanceId",
    "ListRoles": "RoleName",
    "ListInstanceProfiles": "InstanceProfileName",
}
MADE = re.compile(
    r"<(vpcId|subnetId|internetGatewayId|routeTableId|groupId|instanceId|RoleName|InstanceProfileName)>([^<]+)<"
)
MADE_BY = {
    "CreateVpc": "vpcId",
    "CreateSubnet": "subnetId",
    "CreateInternetGateway": "internetGatewayId",
    "CreateRouteTable": "routeTableId",
    "CreateSecurityGroup": "groupId",
    "RunInstances": "instanceId",
    "CreateRole": "RoleName",
    "CreateInstanceProfile": "InstanceProfileName",
}


@dataclass(frozen=True)
class Request:
    """`subject`: the name of what it is about, where that is known; `nth`: how often this was asked of it before."""

    service: str
    action: str
    subject: str
    nth: int
    mutates: bool
    parameters: dict[str, str]


@dataclass(frozen=True)
class Call:
    """A mutating call that reached moto. `made`: the id of what it made, "" where it made nothing."""

    at: float
    action: str
    token: str
    status: int
    made: str


Chooser = Callable[[Request], str]  # the fault's name, or ""


class Chance:
    """A random fault for each request, the same for the same seed. `names` turns random names into a test's own."""

    BEFORE = (("throttled", 0.01), ("throttled, with a time", 0.003), ("failed before acting", 0.03), ("cut off", 0.02))
    AFTER = (("acted, then silent", 0.03), ("acted, then cut off", 0.03), ("delayed", 0.03))
    OF_LOOKS = (("throttled", 0.004), ("failed before acting", 0.01), ("cut off", 0.01), ("delayed", 0.02))
    OF_MACHINES = (("no capacity", 0.03), ("no quota", 0.01))
    REFUSED = (("no permission", 0.003), ("no permission, encoded", 0.003), ("credentials expired", 0.003))

    def __init__(self, seed: int, names: Callable[[str], str] = str) -> None:
        self.seed, self.names = seed, names

    def __call__(self, request: Request) -> str:
        key = f"{self.seed}:{request.action}:{self.names(request.subject)}:{request.nth}"
        at = random.Random(key).random()
        for name, share in self._of(request):
            at -= share
            if at < 0:
                return name
        return ""

    def _of(self, request: Request) -> tuple[tuple[str, float], ...]:
        if not request.mutates:
            return self.OF_LOOKS
        usual = self.BEFORE + self.AFTER
        if request.action == "RunInstances":
            return (*usual, *self.OF_MACHINES, *self.REFUSED, ("hidden", 0.12))
        if request.action in MADE_BY:
            return (*usual, *self.REFUSED, ("hidden", 0.08))
        return (*usual, ("in use", 0.02)) if request.action.startswith("Delete") else usual


class Proxy:
    """`hide_seconds`: how long at most a new resource is hidden from looks."""

    def __init__(self, upstream: str, choose: Chooser, hide_seconds: float, seed: int = 0) -> None:
        parts = urlsplit(upstream)
        self.upstream = (parts.hostname or "", parts.port or 80)
        self.choose, self.hide_seconds, self.seed = choose, hide_seconds, seed
        self.calls: list[Call] = []
        self.faults: Counter[str] = Counter()
        self.hidden: dict[str, float] = {}
        self.subjects: dict[str, str] = {}
        self._asked: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def understand(self, service: str, parameters: dict[str, str]) -> Request:
        action = parameters.get("Action", "")
        mutates = not action.startswith(READS) and parameters.get("DryRun") != "true"
        subject = _tag(parameters, "Name") or next(
            (self.subjects[value] for value in parameters.values() if value in self.subjects), ""
        )
        with self._lock:
            nth = self._asked[action, subject]
            self._asked[action, subject] += 1
        return Request(service, action, subject, nth, mutates, parameters)

    def keep(self, request: Request, status: int, content: bytes, hide: bool) -> None:
        """What a call that moto answered did."""
        field, made = MADE_BY.get(request.action, ""), ""
        if status < 300 and field:
            made = next((value for name, value in MADE.findall(content.decode()) if name == field), "")
        token = request.parameters.get("ClientToken") or _tag(request.parameters, "windlass-token")
        with self._lock:
            self.calls.append(Call(time.monotonic(), request.action, token, status, made))
            if made:
                self.subjects[made] = request.subject
            if made and hide:
                share = random.Random(f"{self.seed}:{request.subject}").random()
                self.hidden[made] = time.monotonic() + self.hide_seconds * share

    def filtered(self, action: str, content: bytes) -> bytes:
        """The answer of a look without what is hidden just now."""
        now = time.monotonic()
        with self._lock:
            hidden = {name for name, until in self.hidden.items() if until > now}
        field = LISTED.get(action)
        if not field or not any(name.encode() in content for name in hidden):
            return content
        tree = ElementTree.fromstring(content)
        space = tree.tag.partition("}")[0] + "}" if tree.tag.startswith("{") else ""
        for parent in list(tree.iter()):
            for item in list(parent):
                if item.tag in {f"{space}item", f"{space}member"} and item.findtext(f"{space}{field}") in hidden:
                    parent.remove(item)
        ElementTree.register_namespace("", space[1:-1])
        return ElementTree.tostring(tree)

    def made_by_token(self) -> dict[str, set[str]]:
        """Of each token, the different things that were made with it."""
        found: dict[str, set[str]] = {}
        for call in self.calls:
            if call.made and call.token:
                found.setdefault(call.token, set()).add(call.made)
        return found

    def send(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, str, bytes]:
        connection = http.client.HTTPConnection(*self.upstream, timeout=30)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.getheader("Content-Type", "text/xml"), answer.read()
        finally:
            connection.close()


def _tag(parameters: dict[str, str], key: str) -> str:
    for name, value in parameters.items():
        if value == key and name.endswith(".Key"):
            return parameters.get(name[: -len("Key")] + "Value", "")
    return ""


def refusal(request: Request, fault: str) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers of a fault that is an answer."""
    status, code, message, headers = ANSWERS[fault]
    message = message.format(service=request.service, action=request.action)
    if request.service == "ec2":
        error = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
        return status, f"<Response><Errors>{error}</Errors><RequestID>r</RequestID></Response>".encode(), headers
    code = IAM_CODES.get(code, code)
    error = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
    return status, f"<ErrorResponse>{error}<RequestId>r</RequestId></ErrorResponse>".encode(), headers


def _handler(proxy: Proxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            scope = re.search(r"Credential=[^/]+/[^/]+/[^/]+/([^/]+)/", self.headers.get("Authorization", ""))
            request = proxy.understand(scope.group(1) if scope else "", dict(parse_qsl(body.decode())))
            fault = proxy.choose(request)
            if fault:
                proxy.faults[fault] += 1
            if fault in ANSWERS:
                self.answer(*refusal(request, fault))
                return
            if fault == "cut off":
                self.cut()
                return
            if fault == "delayed":
                time.sleep(0.1)
            status, kind, content = proxy.send(self.command, self.path, dict(self.headers), body)
            if request.mutates:
                proxy.keep(request, status, content, fault == "hidden")
            if fault == "acted, then silent":
                time.sleep(SILENCE_SECONDS)
            if fault in {"acted, then silent", "acted, then cut off"}:
                self.cut()
                return
            self.answer(status, proxy.filtered(request.action, content), {"Content-Type": kind})

        def answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {"Content-Type": "text/xml", **headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def cut(self) -> None:
            """A reset instead of an answer."""
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()

        def finish(self) -> None:
            try:
                super().finish()
            except (OSError, ValueError):
                return  # whoever asked is gone, or was cut off

        def handle(self) -> None:
            try:
                super().handle()
            except (OSError, ValueError):
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@contextmanager
def serve(proxy: Proxy) -> Iterator[str]:
    """Yields its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(proxy))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
