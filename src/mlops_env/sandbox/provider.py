# ruff: noqa: N802 - the names of the methods are the protocol's
"""A Pulumi provider for package `aws`, of just the types that our program uses, over gRPC and botocore.

Serves the real engine and the embedded one alike: in a thread (`serve`), or as a plugin, a process whose first line
on stdout is its port (`python -m mlops_env.sandbox.provider`).
"""

from __future__ import annotations

import contextlib
import os
from concurrent import futures
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
from botocore.exceptions import BotoCoreError, ClientError
from google.protobuf import empty_pb2
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc, status_pb2

from mlops_env.sandbox.provider_access import KeyPair, SecurityGroup, SecurityGroupRule
from mlops_env.sandbox.provider_client import Clients
from mlops_env.sandbox.provider_instance import Instance
from mlops_env.sandbox.provider_kind import Kind, NotReady
from mlops_env.sandbox.provider_network import InternetGateway, Route, RouteTable, RouteTableAssociation, Subnet, Vpc
from mlops_env.sandbox.wire import UNKNOWN, Values, decode, encode, is_secret, plain, secret

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

VERSION = "7.0.0-sandbox"

KINDS: Mapping[str, Kind] = {
    "aws:ec2/vpc:Vpc": Vpc(),
    "aws:ec2/internetGateway:InternetGateway": InternetGateway(),
    "aws:ec2/subnet:Subnet": Subnet(),
    "aws:ec2/routeTable:RouteTable": RouteTable(),
    "aws:ec2/route:Route": Route(),
    "aws:ec2/routeTableAssociation:RouteTableAssociation": RouteTableAssociation(),
    "aws:ec2/securityGroup:SecurityGroup": SecurityGroup(),
    "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": SecurityGroupRule("ingress"),
    "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule": SecurityGroupRule("egress"),
    "aws:ec2/keyPair:KeyPair": KeyPair(),
    "aws:ec2/instance:Instance": Instance(),
}

_CONFIGURATION = frozenset({"region", "profile", "version", "maxRetries"})
"""What is accepted; only the region counts: retries are those of `provider_client`."""

_FAILURES = (ClientError, BotoCoreError, NotReady)


class Provider(provider_pb2_grpc.ResourceProviderServicer):
    """Talks to the AWS that `variables` name: AWS_ENDPOINT_URL and credentials. A profile means nothing here."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._clients = Clients(variables)

    def Handshake(self, _request: Any, _context: grpc.ServicerContext) -> Any:
        return provider_pb2.ProviderHandshakeResponse(accept_secrets=True)

    def Attach(self, _request: Any, _context: grpc.ServicerContext) -> Any:
        return empty_pb2.Empty()

    def GetPluginInfo(self, _request: Any, _context: grpc.ServicerContext) -> Any:
        return plugin_pb2.PluginInfo(version=VERSION)

    def Cancel(self, _request: Any, _context: grpc.ServicerContext) -> Any:
        """Nothing: what is under way is finished, so that its id is known."""
        return empty_pb2.Empty()

    def CheckConfig(self, request: Any, _context: grpc.ServicerContext) -> Any:
        foreign = [key for key in decode(request.news) if key not in _CONFIGURATION and not key.startswith("skip")]
        failures = [_failure(key, f"the sandbox's provider has no setting {key!r}") for key in foreign]
        return provider_pb2.CheckResponse(inputs=request.news, failures=failures)

    def DiffConfig(self, request: Any, _context: grpc.ServicerContext) -> Any:
        old, new = (plain(decode(side)) for side in (request.old_inputs, request.news))
        changed = _changed(old, new)
        return provider_pb2.DiffResponse(
            changes=_changes(changed), diffs=changed, replaces=[key for key in changed if key == "region"]
        )

    def Configure(self, request: Any, _context: grpc.ServicerContext) -> Any:
        self._clients.region = plain(decode(request.args)).get("region", "us-east-1")
        return provider_pb2.ConfigureResponse(acceptSecrets=True, supportsPreview=True)

    def Check(self, request: Any, context: grpc.ServicerContext) -> Any:
        kind = _kind(request, context)
        inputs = {**kind.defaults, **decode(request.news)}
        missing = sorted(kind.required - inputs.keys())
        foreign = sorted(inputs.keys() - kind.required - kind.optional)
        failures = [_failure(key, f"Missing required argument: {key}") for key in missing]
        failures += [_failure(key, f"the sandbox's provider has no property {key!r} here") for key in foreign]
        return provider_pb2.CheckResponse(inputs=encode(inputs), failures=failures)

    def Diff(self, request: Any, context: grpc.ServicerContext) -> Any:
        kind = _kind(request, context)
        old, new = plain(decode(request.old_inputs)), plain(decode(request.news))
        changed = [key for key in _changed(old, new) if key not in request.ignoreChanges]
        if "id" not in request.olds.fields:
            changed.append("id")  # never settled: `Update` makes up for it
        replaces = [key for key in changed if key in kind.replaces(old, new)]
        return provider_pb2.DiffResponse(
            changes=_changes(changed),
            diffs=changed,
            replaces=replaces,
            deleteBeforeReplace=kind.exclusive and bool(replaces),
            hasDetailedDiff=True,
            detailedDiff={key: _difference(key, old, new, replaces) for key in changed},
        )

    def Create(self, request: Any, context: grpc.ServicerContext) -> Any:
        kind, given = _kind(request, context), decode(request.properties)
        if request.preview:
            unknown = dict.fromkeys(kind.computed, UNKNOWN)
            return provider_pb2.CreateResponse(properties=encode(_outputs(kind, "", given, unknown)))
        ec2, inputs = self._clients.ec2(), plain(given)
        with _told(context):
            id_ = kind.create(ec2, inputs)
        try:
            kind.settle(ec2, id_, inputs)
            live = _existing(kind, ec2, id_, inputs)
        except _FAILURES as error:
            _abort_half_made(context, id_, given, error)
        return provider_pb2.CreateResponse(id=id_, properties=encode(_outputs(kind, id_, given, live)))

    def Read(self, request: Any, context: grpc.ServicerContext) -> Any:
        kind, inputs = _kind(request, context), decode(request.inputs)
        ec2 = self._clients.ec2()
        with _told(context):
            live = kind.look(ec2, request.id, plain({**inputs, **decode(request.properties)}))
            is_settled = live is None or kind.is_settled(ec2, request.id, live)
        if live is None:
            return provider_pb2.ReadResponse()
        seen = {key: _as_seen(value, live[key]) if key in live else value for key, value in inputs.items()}
        outputs = _outputs(kind, request.id, seen, live)
        if not is_settled:
            del outputs["id"]
        return provider_pb2.ReadResponse(id=request.id, inputs=encode(seen), properties=encode(outputs))

    def Update(self, request: Any, context: grpc.ServicerContext) -> Any:
        kind, given, olds = _kind(request, context), decode(request.news), decode(request.olds)
        if request.preview:
            return provider_pb2.UpdateResponse(properties=encode(_outputs(kind, request.id, given, plain(olds))))
        ec2, inputs = self._clients.ec2(), plain(given)
        with _told(context):
            if "id" not in olds:
                kind.settle(ec2, request.id, inputs)
            kind.change(ec2, request.id, plain(decode(request.old_inputs)), inputs)
            live = _existing(kind, ec2, request.id, inputs)
        return provider_pb2.UpdateResponse(properties=encode(_outputs(kind, request.id, given, live)))

    def Delete(self, request: Any, context: grpc.ServicerContext) -> Any:
        kind = _kind(request, context)
        state = plain({**decode(request.old_inputs), **decode(request.properties)})
        with _told(context):
            kind.delete(self._clients.ec2(), request.id, state)
        return empty_pb2.Empty()


def _kind(request: Any, context: grpc.ServicerContext) -> Kind:
    token = request.urn.split("::")[2].rpartition("$")[2]
    if token not in KINDS:
        context.abort(grpc.StatusCode.UNKNOWN, f"the sandbox's provider has no type {token!r}")
    return KINDS[token]


def _failure(key: str, reason: str) -> Any:
    return provider_pb2.CheckFailure(property=key, reason=reason)


def _changed(old: Values, new: Values) -> list[str]:
    return sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))


def _changes(changed: list[str]) -> Any:
    return provider_pb2.DiffResponse.DIFF_SOME if changed else provider_pb2.DiffResponse.DIFF_NONE


def _difference(key: str, old: Values, new: Values, replaces: list[str]) -> Any:
    name = "ADD" if key not in old else "DELETE" if key not in new else "UPDATE"
    kind = provider_pb2.PropertyDiff.Kind.Value(name + ("_REPLACE" if key in replaces else ""))
    return provider_pb2.PropertyDiff(kind=kind, inputDiff=True)


def _outputs(kind: Kind, id_: str, given: Values, live: Values) -> Values:
    """The inputs as they were given, marks of secrets included, and what AWS says beyond them."""
    outputs = {key: live[key] for key in kind.computed if key in live} | given
    outputs |= {key: secret(outputs[key]) for key in kind.secrets if key in outputs}
    return {**outputs, "id": id_ or UNKNOWN}


def _as_seen(given: Any, live: Any) -> Any:
    """A property as AWS has it; as it was where only the order of a list is another."""
    if isinstance(live, list) and isinstance(plain(given), list) and sorted(live) == sorted(plain(given)):
        return given
    return secret(live) if is_secret(given) else live


def _existing(kind: Kind, ec2: Any, id_: str, inputs: Values) -> Values:
    live = kind.look(ec2, id_, inputs)
    if live is None:
        raise NotReady(f"{id_} is gone as soon as it was made")
    return live


@contextlib.contextmanager
def _told(context: grpc.ServicerContext) -> Iterator[None]:
    """Failures reach people in AWS's own words; causes are read from them."""
    try:
        yield
    except _FAILURES as error:
        context.abort(grpc.StatusCode.UNKNOWN, str(error))


def _abort_half_made(context: grpc.ServicerContext, id_: str, given: Values, error: Exception) -> NoReturn:
    """It exists, so the engine must learn its id. Its outputs have no "id": the mark of what was never settled."""
    failed = provider_pb2.ErrorResourceInitFailed(id=id_, properties=encode(given), reasons=[str(error)])
    status = status_pb2.Status(code=grpc.StatusCode.UNKNOWN.value[0], message=str(error))
    status.details.add().Pack(failed)
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(grpc.StatusCode.UNKNOWN, str(error))
    raise AssertionError  # `abort` never returns


def serve(variables: Mapping[str, str], port: int = 0) -> tuple[grpc.Server, int]:
    """Serve on the loopback device, on any free port unless told which."""
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8), options=[("grpc.so_reuseport", 0)])
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(Provider(variables), server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return server, port


def main() -> None:
    server, port = serve(os.environ)
    os.write(1, f"{port}\n".encode())
    parent = os.getppid()
    while server.wait_for_termination(timeout=1.0):
        if os.getppid() != parent:  # an engine that was killed ends no plugins
            return


if __name__ == "__main__":
    main()
