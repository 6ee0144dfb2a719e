"""The host from outside: found by its tag, stopped and started whatever state it is in, its door moved."""

from __future__ import annotations

import socket
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest

from mlops_env.ec2 import instance
from mlops_env.errors import MlopsEnvError

from .estate import Estate, aws_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlops_env.ec2.aws import Aws
    from mlops_env.ec2.instance import Instance
    from mlops_env.events import Event
    from mlops_env.sandbox.control import Running


@pytest.fixture
def aws(sandbox: Running) -> Aws:
    return aws_of(sandbox)


@pytest.fixture
def estate(aws: Aws) -> Estate:
    return Estate(aws)


@pytest.fixture
def told() -> list[Event]:
    return []


def _found(estate: Estate) -> Instance:
    found = instance.look(estate.aws, estate.identity)
    assert found
    return found


def _end(estate: Estate) -> None:
    estate.ec2.terminate_instances(InstanceIds=[estate.made["instance"]])


def _until(estate: Estate, state: str) -> None:
    end = time.monotonic() + 10
    while (
        estate.ec2.describe_instances(InstanceIds=[estate.made["instance"]])["Reservations"][0]["Instances"][0][
            "State"
        ]["Name"]
        != state
    ):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_there_is_none(aws: Aws) -> None:
    assert instance.look(aws, str(uuid.uuid4())) is None
    assert instance.find_by_tag_all(aws, str(uuid.uuid4())) == frozenset()


def test_the_host_is_found_by_its_tag(estate: Estate) -> None:
    Estate(estate.aws).host()  # another one's
    estate.firewall().host()
    _until(estate, "running")
    found = _found(estate)
    (described,) = instance.described(estate.aws, [{"Name": "instance-id", "Values": [estate.made["instance"]]}])
    assert found.id == estate.made["instance"]
    assert (found.state, found.type) == ("running", "t3.large")
    assert found.address == described["PublicIpAddress"]
    assert found.zone == described["Placement"]["AvailabilityZone"]
    assert found.security_group == estate.made["security-group"]
    assert abs(found.launched - time.time()) < 60


def test_of_several_the_newest_counts_and_a_terminated_one_does_not(estate: Estate) -> None:
    first = estate.host().made["instance"]
    time.sleep(1.1)  # the launch time has whole seconds
    second = estate.host().made["instance"]
    assert _found(estate).id == second
    _end(estate)
    assert _found(estate).id == first
    _until(estate, "terminated")
    estate.made["instance"] = first
    _end(estate)
    assert _found(estate).state == "shutting-down"
    _until(estate, "terminated")
    assert instance.look(estate.aws, estate.identity) is None


def test_all_that_bears_the_tag_is_found_in_one_call(estate: Estate) -> None:
    estate.whole()
    calls: list[str] = []
    estate.ec2.meta.events.register("before-call", lambda model, **_: calls.append(model.name))
    ids = instance.find_by_tag_all(estate.aws, estate.identity)
    assert calls == ["DescribeTags"]
    assert {id_ for kind, id_ in estate.made.items() if kind not in {"key-pair", "association"}} <= ids


def test_stop_and_start_wait_for_their_end(estate: Estate, told: list[Event]) -> None:
    estate.host()
    instance.stop(estate.aws, _found(estate), told.append)  # while it is still pending
    stopped = _found(estate)
    assert (stopped.state, stopped.address) == ("stopped", "")
    started = instance.start(estate.aws, stopped, told.append)
    assert started.state == "running"
    assert started.address
    assert [event.status for event in told] == ["started", "started", "changed", "started", "changed"]
    assert {event.name for event in told} == {"instance"}


def test_one_that_is_still_stopping_is_waited_for_and_started(estate: Estate, told: list[Event]) -> None:
    estate.host()
    _until(estate, "running")
    estate.ec2.stop_instances(InstanceIds=[estate.made["instance"]])
    stopping = _found(estate)
    assert stopping.state == "stopping"
    assert instance.start(estate.aws, stopping, told.append).state == "running"


def test_doing_it_again_does_nothing(estate: Estate, sandbox: Running, told: list[Event]) -> None:
    estate.host()
    started = instance.start(estate.aws, _found(estate), told.append)
    assert instance.start(estate.aws, started, told.append) == started
    instance.stop(estate.aws, started, told.append)
    sandbox.call("DELETE", "/sandbox/calls")
    instance.stop(estate.aws, started, told.append)
    assert sandbox.call("GET", "/sandbox/calls") == []


def test_one_that_somebody_ends_meanwhile_is_told(estate: Estate, told: list[Event]) -> None:
    estate.host()
    found = _found(estate)
    _end(estate)
    for act in (instance.stop, instance.start):
        with pytest.raises(MlopsEnvError, match="somebody ended it") as raised:
            act(estate.aws, found, told.append)
        assert raised.value.code == "instance-gone"


def test_a_wait_has_an_end(
    estate: Estate, sandbox: Running, monkeypatch: pytest.MonkeyPatch, told: list[Event]
) -> None:
    sandbox.call("PUT", "/sandbox/timing", {"transition": 30})
    monkeypatch.setattr(instance, "_PATIENCE", 0.1)
    estate.host()
    with pytest.raises(MlopsEnvError, match="still pending after 0 s, instead of running") as raised:
        instance.start(estate.aws, _found(estate), told.append)
    assert raised.value.code == "instance-slow"


def test_no_room_at_the_start_says_where_and_what_else_would_do(
    estate: Estate, sandbox: Running, told: list[Event]
) -> None:
    estate.host()
    instance.stop(estate.aws, _found(estate), told.append)
    rule = {"action": "StartInstances", "code": "InsufficientInstanceCapacity", "status": 500, "times": 10}
    sandbox.call("POST", "/sandbox/faults", {"rules": [rule]})
    stopped = _found(estate)
    with pytest.raises(MlopsEnvError, match=f"no t3.large free in {stopped.zone}") as raised:
        instance.start(estate.aws, stopped, told.append)
    assert raised.value.code == "aws-no-capacity"


def test_an_id_that_is_not_known_everywhere_yet_is_waited_for(
    estate: Estate, sandbox: Running, told: list[Event]
) -> None:
    estate.host()
    found = _found(estate)
    sandbox.call("PUT", "/sandbox/timing", {"transition": 0, "consistency": 1.0})
    other = Estate(estate.aws, identity=estate.identity).host().made["instance"]
    young = instance.Instance(other, "pending", "", found.zone, found.type, found.launched, "")
    assert instance.start(estate.aws, young, told.append).id == other


def test_the_door_is_moved_to_where_the_caller_is_now(estate: Estate) -> None:
    estate.firewall()
    instance.move_rule(estate.aws, estate.made["ingress"], estate.made["security-group"], "203.0.113.9/32")
    filters = [{"Name": "group-id", "Values": [estate.made["security-group"]]}]
    rules = [
        rule
        for rule in estate.ec2.describe_security_group_rules(Filters=filters)["SecurityGroupRules"]
        if not rule["IsEgress"]
    ]
    assert [(rule["FromPort"], rule["ToPort"], rule["CidrIpv4"]) for rule in rules] == [(22, 22, "203.0.113.9/32")]


def test_a_door_that_is_gone_is_told(estate: Estate) -> None:
    estate.firewall()
    with pytest.raises(MlopsEnvError, match=r"letting ssh in from 203\.0\.113\.9/32") as raised:
        instance.move_rule(estate.aws, estate.made["ingress"], "sg-0123456789abcdef0", "203.0.113.9/32")
    assert raised.value.code == "aws-not-found"


def test_what_an_instance_said_when_it_booted_is_shown_where_that_may_be_asked(
    estate: Estate, sandbox: Running
) -> None:
    estate.host()
    (said,) = {estate.ec2.get_console_output(InstanceId=estate.made["instance"])["Output"]}
    shown = instance.console(estate.aws, estate.made["instance"])
    assert shown
    assert said.rstrip().endswith(shown)
    rule = {"action": "GetConsoleOutput", "code": "UnauthorizedOperation", "status": 403}
    sandbox.call("POST", "/sandbox/faults", {"rules": [rule]})
    assert instance.console(estate.aws, estate.made["instance"]) == ""


def test_the_sandbox_tells_the_callers_address(sandbox: Running) -> None:
    rule = {"action": "CheckIp", "message": "198.51.100.7"}
    sandbox.call("POST", "/sandbox/faults", {"rules": [rule]})
    assert instance.caller_address(sandbox.address_url) == "198.51.100.7/32"


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.path.removeprefix("/").encode())

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


@pytest.fixture
def site() -> Iterator[str]:
    """Answers with the path it is asked for."""
    with HTTPServer(("127.0.0.1", 0), _Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("answer", ["", "2001:db8::1", "<html>log%20in%20first</html>", "203.0.113.300"])
def test_an_answer_that_is_no_address_is_no_address(site: str, answer: str) -> None:
    with pytest.raises(MlopsEnvError) as raised:
        instance.caller_address(f"{site}{answer}")
    assert raised.value.code == "address-unknown"
    assert "--allow" in raised.value.hint


def test_no_proxy_is_asked_for_the_address(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert instance.caller_address(f"{site}203.0.113.9") == "203.0.113.9/32"


def test_nobody_there_to_tell_the_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(MlopsEnvError, match="Connection refused") as raised:
        instance.caller_address(f"http://127.0.0.1:{port}/")
    assert raised.value.code == "address-unknown"
