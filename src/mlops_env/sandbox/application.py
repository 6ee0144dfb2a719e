"""The sandbox as a WSGI application: moto's server, with what makes it an AWS to rehearse on in front."""

from __future__ import annotations

import base64
import io
import logging
import re
import time
from typing import TYPE_CHECKING, Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.wrappers import Request, Response

from mlops_env.sandbox import backend, call, canned
from mlops_env.sandbox.calls import Calls
from mlops_env.sandbox.timing import Consistency

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mlops_env.sandbox.call import Call
    from mlops_env.sandbox.calls import Entry
    from mlops_env.sandbox.faults import Faults, Rule
    from mlops_env.sandbox.hosts import Hosts

    Environ = dict[str, Any]
    StartResponse = Callable[..., Any]

_log = logging.getLogger(__name__)


class Application:
    """`administration` answers what is not AWS: the paths under /sandbox/, for who has the token."""

    def __init__(self, hosts: Hosts, faults: Faults) -> None:
        self.hosts, self.faults = hosts, faults
        self.calls = Calls()
        self.consistency = Consistency()
        self.administration: Callable[[Request], Response]
        backend.install(hosts, faults)
        self._moto = DomainDispatcherApplication(create_backend_app)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        if request.path.startswith("/sandbox/"):
            response = self.administration(request)
        elif request.path == "/checkip":
            response = Response(f"{self.faults.address() or self.hosts.gateway}\n")
        elif request.path.startswith("/moto-api/"):
            return list(self._moto(environ, start_response))
        else:
            response = self._aws(request)
        return response(environ, start_response)

    def _aws(self, request: Request) -> Response:
        asked = call.read(request)
        entry = self.calls.note(asked)
        rules = self.faults.due(asked, _zone(asked))
        time.sleep(sum(rule.delay for rule in rules))
        self._hold(entry, rules, "before")
        response = _refused(asked, rules) or self._missed(asked) or canned.answer(asked, self.faults.names)
        response = response or self._carried_out(asked, request)
        entry.status = response.status_code
        self._hold(entry, rules, "after")
        return response

    def _hold(self, entry: Entry, rules: list[Rule], when: str) -> None:
        for rule in rules:
            if rule.hold == when:
                self.calls.hold(entry, rule)

    def _missed(self, asked: Call) -> Response | None:
        missed = self.consistency.missed(asked)
        return call.error(asked, *missed, 400) if missed else None

    def _carried_out(self, asked: Call, request: Request) -> Response:
        unread = {**request.environ, "wsgi.input": io.BytesIO(request.get_data())}
        try:
            response = Response.from_app(self._moto, unread, buffered=True)
        except Exception:  # noqa: BLE001 - whatever is wrong in moto, which its server would show as a page
            _log.exception("%s %s failed in moto", asked.service, asked.action)
            return _unknown(asked)
        if response.status_code == 500 and response.mimetype == "text/html":  # noqa: PLR2004 - its page for what it lacks
            return _unknown(asked)
        if asked.service == "ec2" and response.status_code == 200:  # noqa: PLR2004
            if asked.is_mutating:
                self.consistency.note(asked, response.get_data(as_text=True))
                self.hosts.heed_groups(asked.action)
            else:
                response.set_data(self.consistency.without_young(response.get_data()))
        if asked.action == "GetConsoleOutput":
            said = base64.b64encode(self.hosts.console(asked.first("InstanceId")).encode())
            response.set_data(
                re.sub(b"<output>.*</output>", b"<output>%b</output>" % said, response.get_data(), flags=re.DOTALL)
            )
        return response


def _zone(asked: Call) -> str:
    """Where a RunInstances wants to go."""
    if asked.action != "RunInstances":
        return ""
    wanted = asked.first("SubnetId") or asked.first("NetworkInterface.1.SubnetId")
    region = backend.regions().get(asked.region)
    subnets = region.describe_subnets(filters={"subnet-id": [wanted]}) if region and wanted else []
    zone = subnets[0].availability_zone if subnets else asked.first("Placement.AvailabilityZone")
    return zone or f"{asked.region}a"


def _refused(asked: Call, rules: list[Rule]) -> Response | None:
    for rule in rules:
        if rule.code:
            zone = _zone(asked)
            others = [f"{asked.region}{letter}" for letter in "abc" if not zone.endswith(letter)]
            facts = {"type": asked.first("InstanceType"), "zone": zone, "others": ", ".join(others)}
            message = rule.message.format_map(facts) if zone else rule.message
            return call.error(asked, rule.code, message or rule.code, rule.status)
    return None


def _unknown(asked: Call) -> Response:
    message = f"The action {asked.action} is not valid for this web service: the sandbox does not know it."
    return call.error(asked, "InvalidAction", message, 400)
