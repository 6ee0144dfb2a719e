"""One call of AWS's API as it comes over HTTP, and answers to it in the shape of its protocol."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qsl
from uuid import uuid4
from xml.sax.saxutils import escape

from werkzeug.wrappers import Response

from mlops_env.sandbox.faults import EXPIRED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from werkzeug.wrappers import Request

_SCOPE = re.compile(r"Credential=[^/]+/\d+/([^/]+)/([^/]+)/aws4_request")
_EXPIRED = {"ec2": EXPIRED, "query": "ExpiredToken", "json": "ExpiredTokenException"}
_READS = ("Describe", "Get", "List", "Lookup", "Search", "Simulate", "Head", "Assume", "Decode")


@dataclass(frozen=True)
class Call:
    """`parameters` are those of the query protocols, flat as they are sent (`Filter.1.Name`), or the JSON body's."""

    service: str
    region: str
    action: str
    parameters: Mapping[str, Any]
    body: str
    protocol: Literal["ec2", "query", "json"]

    @property
    def is_mutating(self) -> bool:
        return not self.action.startswith(_READS)

    def first(self, name: str) -> str:
        """A parameter's value, else that of the first of a list, else nothing."""
        return str(self.parameters.get(name) or self.parameters.get(f"{name}.1") or "")


def read(request: Request) -> Call:
    """What is called; an action of a REST service is its method and path."""
    scope = _SCOPE.search(request.headers.get("Authorization", ""))
    region, service = scope.groups() if scope else ("", "")
    body = request.get_data().decode(errors="replace")
    if target := request.headers.get("X-Amz-Target"):
        return Call(service, region, target.rpartition(".")[2], _json(body), body, "json")
    parameters = dict(parse_qsl(body or request.query_string.decode(), keep_blank_values=True))
    action = parameters.get("Action", f"{request.method.capitalize()} {request.path}")
    return Call(service, region, action, parameters, body, "ec2" if service == "ec2" else "query")


def _json(body: str) -> dict[str, Any]:
    try:
        return dict(json.loads(body or "{}"))
    except ValueError:
        return {}


def error(call: Call, code: str, message: str, status: int) -> Response:
    """As AWS says it in this call's protocol."""
    if code == EXPIRED:
        code = _EXPIRED[call.protocol]
    if call.protocol == "json":
        return answer({"__type": code, "message": message}, status)
    detail = f"<Code>{escape(code)}</Code><Message>{escape(message)}</Message>"
    if call.protocol == "ec2":
        text = f"<Response><Errors><Error>{detail}</Error></Errors><RequestID>{uuid4()}</RequestID></Response>"
    else:
        text = f"<ErrorResponse><Error>{detail}</Error><RequestId>{uuid4()}</RequestId></ErrorResponse>"
    return Response(f'<?xml version="1.0" encoding="UTF-8"?>{text}', status, content_type="text/xml")


def answer(value: Mapping[str, Any], status: int = 200) -> Response:
    return Response(json.dumps(value), status, content_type="application/x-amz-json-1.1")
