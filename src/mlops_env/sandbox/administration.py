"""What a sandbox does beside being AWS, over HTTP, for who has the token that only its user can read."""

from __future__ import annotations

import hmac
import json
import logging
import threading
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from werkzeug.test import Client
from werkzeug.wrappers import Response

from mlops_env.sandbox import backend
from mlops_env.sandbox.timing import TimedState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import grpc
    from werkzeug.wrappers import Request

    from mlops_env.sandbox.application import Application

_log = logging.getLogger(__name__)
_USUAL_SECONDS = 1.0
_SLOW_SECONDS = 15.0


class Administration:
    """`shutdown` ends the server; `variables` are what a provider needs to reach it."""

    def __init__(
        self, application: Application, token: str, variables: Mapping[str, str], shutdown: Callable[[], None]
    ) -> None:
        self._application, self._token, self._variables, self._shutdown = application, token, variables, shutdown
        self._providers: dict[str, tuple[grpc.Server, int]] = {}
        self._starting = threading.Lock()
        self._seconds = _USUAL_SECONDS

    def __call__(self, request: Request) -> Response:
        given = request.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
            return _answer({"error": "the token of cloud.json is needed"}, 401)
        name = f"{request.method.lower()}_{request.path.removeprefix('/sandbox/')}"
        handler: Callable[[dict[str, Any]], Any] | None = getattr(self, name, None)
        if handler is None:
            return _answer({"error": f"there is no {request.method} {request.path}"}, 404)
        try:
            return _answer(handler(json.loads(request.get_data() or b"{}")))
        except (ValueError, TypeError, KeyError) as error:
            return _answer({"error": str(error)}, 400)
        except Exception as error:  # noqa: BLE001 - its caller is to know, and this goes on
            _log.exception("%s %s failed", request.method, request.path)
            return _answer(
                {"error": str(error), "code": getattr(error, "code", ""), "hint": getattr(error, "hint", "")}, 500
            )

    def get_status(self, _: dict[str, Any]) -> dict[str, Any]:
        return {
            "faults": sorted(self._application.faults.names),
            "hosts": self._application.hosts.count(),
            "things": len(backend.things()),
            "environments": sorted({thing["identity"] for thing in backend.things()}),
        }

    def put_faults(self, body: dict[str, Any]) -> dict[str, Any]:
        """These names, these rules, and no others; of what is not given, those that there are."""
        if "names" in body:
            self._application.faults.set_names(body["names"])
        if "rules" in body:
            self._application.faults.set_rules(body["rules"])
        return self._paced()

    def post_faults(self, body: dict[str, Any]) -> dict[str, Any]:
        """More rules."""
        self._application.faults.add_rules(body["rules"])
        return {}

    def delete_faults(self, _: dict[str, Any]) -> dict[str, Any]:
        return self.put_faults({"names": [], "rules": []})

    def put_timing(self, body: dict[str, Any]) -> dict[str, Any]:
        """Seconds: `transition` from one state of an instance to the next, `consistency` until an id is known."""
        self._seconds = float(body.get("transition", self._seconds))
        self._application.consistency.seconds = float(body.get("consistency", self._application.consistency.seconds))
        return self._paced()

    def _paced(self) -> dict[str, Any]:
        is_slow = "slow" in self._application.faults.names
        TimedState.seconds = max(self._seconds, _SLOW_SECONDS) if is_slow else self._seconds
        return {}

    def get_calls(self, _: dict[str, Any]) -> list[dict[str, Any]]:
        return [asdict(entry) for entry in self._application.calls.all()]

    def delete_calls(self, _: dict[str, Any]) -> dict[str, Any]:
        self._application.calls.clear()
        return {}

    def get_held(self, _: dict[str, Any]) -> list[dict[str, Any]]:
        return self._application.calls.held()

    def delete_held(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"released": self._application.calls.release()}

    def get_things(self, _: dict[str, Any]) -> list[Mapping[str, str]]:
        return backend.things()

    def put_hosts(self, body: dict[str, Any]) -> dict[str, Any]:
        self._application.hosts.open(str(body["image"]))
        return {}

    def delete_hosts(self, body: dict[str, Any]) -> dict[str, Any]:
        """An environment that is to have none."""
        self._application.hosts.leave_without(str(body["identity"]))
        return {}

    def put_provider(self, body: dict[str, Any]) -> dict[str, Any]:
        """The port of an environment's provider, which is started if there is none."""
        identity = str(body["identity"])
        with self._starting:
            if identity not in self._providers:
                from mlops_env.sandbox import provider  # noqa: PLC0415 - grpc, for who provisions

                self._providers[identity] = provider.serve(self._variables)
        return {"port": self._providers[identity][1]}

    def post_reset(self, _: dict[str, Any]) -> dict[str, Any]:
        """An account as new, without faults and hosts."""
        self._application.hosts.clear()
        self._application.faults.clear()
        self._application.calls.clear()
        Client(self._application).post("/moto-api/reset")
        return self.put_timing({"transition": _USUAL_SECONDS, "consistency": 0.0})

    def post_shutdown(self, _: dict[str, Any]) -> dict[str, Any]:
        self._shutdown()
        return {}


def _answer(value: Any, status: int = 200) -> Response:
    return Response(json.dumps(value), status, content_type="application/json")
