"""The sandbox's instances are machines: they boot, stop, end and are reached as the API says, and it knows of them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from mlops_env.errors import MlopsEnvError
from mlops_env.sandbox import control, host_image, traces
from mlops_env_infra import userdata

from .engine import engine
from .harness import make_key, public
from .images import build_all

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlops_env.events import Event
    from mlops_env.sandbox.control import Running

IMAGE = "/aws/service/debian/release/12/latest/amd64"
TTL = 3600


@dataclass
class Cloud:
    """A sandbox with hosts and what is needed to make instances in it; `folder` keeps keys."""

    running: Running
    folder: Path

    def __post_init__(self) -> None:
        words = self.running.variables()
        session = boto3.Session(words["AWS_ACCESS_KEY_ID"], words["AWS_SECRET_ACCESS_KEY"], region_name="us-east-1")
        self.ec2 = session.client("ec2", endpoint_url=self.running.endpoint)
        self.image = session.client("ssm", endpoint_url=self.running.endpoint).get_parameter(Name=IMAGE)["Parameter"]
        for name in ("id", "host"):
            make_key(self.folder / name)
        self.ec2.import_key_pair(KeyName="key", PublicKeyMaterial=public(self.folder / "id").encode())

    def address(self) -> str:
        """Ours, as it says."""
        with urllib.request.urlopen(self.running.address_url) as answer:
            return str(answer.read().decode().strip())

    def group(self) -> str:
        """A security group that lets nobody in yet."""
        made = self.ec2.create_security_group(GroupName=str(uuid.uuid4()), Description="test")
        return str(made["GroupId"])

    def let_in(self, group: str, cidr: str) -> str:
        permission = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": cidr}]}
        made = self.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[permission])
        return str(made["SecurityGroupRules"][0]["SecurityGroupRuleId"])

    def launch(self, *faults: str, identity: str = "", by_interface: bool = False, **options: Any) -> Instance:
        """One of an environment of its own, which lets us in: by a group of its own, or of its interface."""
        self.running.break_(faults)
        group = self.group()
        self.let_in(group, f"{self.address()}/32")
        interface = {"DeviceIndex": 0, "Groups": [group], "AssociatePublicIpAddress": True}
        groups: dict[str, Any] = {"NetworkInterfaces": [interface]} if by_interface else {"SecurityGroupIds": [group]}
        key = (self.folder / "host").read_text(), public(self.folder / "host")
        tags = [{"Key": "mlops-env:id", "Value": identity or str(uuid.uuid4())}]
        made = self.ec2.run_instances(
            ImageId=self.image["Value"],
            InstanceType="t3.large",
            MinCount=1,
            MaxCount=1,
            KeyName="key",
            UserData=userdata.render(host_key=key[0], host_key_public=key[1], ttl_seconds=TTL),
            TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
            **groups,
            **options,
        )
        self.running.break_([])
        return Instance(self, made["Instances"][0]["InstanceId"], group)

    def left(self, instance: Instance) -> list[str]:
        """What Docker has of an instance."""
        containers = engine("ps", "--all", "--quiet", f"--filter=name={instance.id}").split()
        return containers + engine("volume", "ls", "--quiet", f"--filter=name={instance.id}").split()


@dataclass
class Instance:
    cloud: Cloud
    id: str
    group: str

    def look(self) -> dict[str, Any]:
        found = self.cloud.ec2.describe_instances(InstanceIds=[self.id])
        return dict(found["Reservations"][0]["Instances"][0])

    @property
    def state(self) -> str:
        return str(self.look()["State"]["Name"])

    @property
    def address(self) -> str:
        return str(self.look()["PublicIpAddress"])

    def until(self, state: str, seconds: float = 40) -> Instance:
        end = time.monotonic() + seconds
        while self.state != state:
            assert time.monotonic() < end, self.look()["State"]
            time.sleep(0.1)
        return self

    def ssh(self, command: str) -> subprocess.CompletedProcess[str]:
        """As admin, strict about the host key that the user-data had."""
        known = self.cloud.folder / f"known-{self.id}"
        known.write_text(f"{self.address} {public(self.cloud.folder / 'host')}")
        strict = (f"UserKnownHostsFile={known}", "StrictHostKeyChecking=yes", "ConnectTimeout=3", "BatchMode=yes")
        argv = ["ssh", "-F", "none", *(f"-o{option}" for option in strict), "-i", str(self.cloud.folder / "id")]
        argv += [f"admin@{self.address}", command]
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)

    def says(self, command: str, seconds: float = 30) -> str:
        """What a command answers, once it runs and the door is open."""
        self.until("running")
        end = time.monotonic() + seconds
        while (done := self.ssh(command)).returncode == 255:
            assert time.monotonic() < end, done.stderr
            time.sleep(0.2)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def lets_us_in(self) -> bool:
        return self.ssh("true").returncode == 0

    def inside(self, command: str) -> str:
        """What root sees, past ssh."""
        return engine("exec", f"mlops-env-{self.id}", "bash", "-euc", command)

    def end(self) -> None:
        self.cloud.ec2.terminate_instances(InstanceIds=[self.id])
        self.until("terminated")


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    build_all()
    folder = Path(tempfile.mkdtemp(prefix="si-"))
    try:
        yield Cloud(control.ensure(folder / "sandbox", lambda _: None, with_hosts=True), folder)
    finally:
        control.stop(folder / "sandbox", lambda _: None)
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def instance(cloud: Cloud) -> Instance:
    """The one of the tests that leave it running."""
    return cloud.launch()


def test_whose_key_it_is_logs_in_and_the_user_data_has_been_followed(instance: Instance) -> None:
    assert instance.state == "pending"
    instance.until("running")
    assert instance.says("cloud-init status --wait").endswith("status: done")
    assert instance.says("id --user --name; sudo id --user --name").split() == ["admin", "root"]
    deadline = int(instance.says("cat /var/lib/mlops-env/deadline"))
    assert time.time() < deadline <= time.time() + TTL
    assert instance.says("systemctl is-system-running") == "running"


def test_the_caller_has_the_address_that_the_sandbox_says(instance: Instance, cloud: Cloud) -> None:
    assert instance.says("echo $SSH_CLIENT").split()[0] == cloud.address()


def test_engines_in_it_can_ask_for_names(instance: Instance) -> None:
    """The resolver on a loopback address that engines give to containers is none for those inside of one."""
    assert "127.0.0.11" not in instance.says("cat /etc/resolv.conf")


def test_a_stop_takes_the_address_and_a_start_gives_another_one_with_all_data(instance: Instance, cloud: Cloud) -> None:
    instance.says("echo kept | sudo tee /var/lib/docker/kept ~/kept")
    before = instance.address
    cloud.ec2.stop_instances(InstanceIds=[instance.id])
    assert instance.state == "stopping"
    assert "PublicIpAddress" not in instance.until("stopped").look()
    assert engine("inspect", "--format", "{{.State.Running}}", f"mlops-env-{instance.id}") == "false"
    cloud.ec2.start_instances(InstanceIds=[instance.id])
    assert instance.state == "pending"
    assert instance.until("running").address != before
    assert instance.says("cat ~/kept; sudo cat /var/lib/docker/kept").split() == ["kept", "kept"]


def test_one_that_switches_itself_off_is_stopped(instance: Instance, cloud: Cloud) -> None:
    instance.says("echo mine >~/mine")
    instance.ssh("sudo systemctl poweroff")
    assert instance.until("stopped").look()["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"
    cloud.ec2.start_instances(InstanceIds=[instance.id])
    assert instance.says("cat ~/mine") == "mine"


@pytest.mark.parametrize("who", ["guest", "api"])
def test_a_reboot_keeps_the_address(instance: Instance, cloud: Cloud, who: str) -> None:
    since = "systemctl show --property=KernelTimestampMonotonic,UserspaceTimestampMonotonic"
    booted, before = instance.says(since), instance.address
    if who == "guest":
        instance.ssh("sudo systemctl reboot")
    else:
        cloud.ec2.reboot_instances(InstanceIds=[instance.id])
    end = time.monotonic() + 40
    while instance.ssh(since).stdout.strip() in {booted, ""}:
        assert time.monotonic() < end
        time.sleep(0.2)
    assert (instance.state, instance.address) == ("running", before)


def test_the_security_group_is_felt(instance: Instance, cloud: Cloud) -> None:
    ours = f"{cloud.address()}/32"
    (rule,) = cloud.ec2.describe_security_group_rules(Filters=[{"Name": "group-id", "Values": [instance.group]}])[
        "SecurityGroupRules"
    ][-1:]
    instance.says("true")
    moved = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "CidrIpv4": "198.51.100.7/32"}
    change = {"SecurityGroupRuleId": rule["SecurityGroupRuleId"], "SecurityGroupRule": moved}
    cloud.ec2.modify_security_group_rules(GroupId=instance.group, SecurityGroupRules=[change])
    assert not instance.lets_us_in()
    network = cloud.let_in(instance.group, ours.replace("/32", "/28").replace(cloud.address(), _network(cloud)))
    instance.says("true")
    cloud.ec2.revoke_security_group_ingress(GroupId=instance.group, SecurityGroupRuleIds=[network])
    assert not instance.lets_us_in()
    cloud.let_in(instance.group, ours)
    instance.says("true")


def _network(cloud: Cloud) -> str:
    first, last = cloud.address().rsplit(".", 1)
    return f"{first}.{int(last) // 16 * 16}"


def test_what_is_terminated_leaves_nothing(cloud: Cloud) -> None:
    instance = cloud.launch().until("running")
    assert len(cloud.left(instance)) == 2  # its container and its disk
    instance.end()
    assert cloud.left(instance) == []
    assert instance.id not in {thing["id"] for thing in cloud.running.call("GET", "/sandbox/things")}


def test_what_is_terminated_before_it_runs_leaves_nothing(cloud: Cloud) -> None:
    instance = cloud.launch()
    instance.end()
    assert cloud.left(instance) == []


def test_one_that_is_to_end_with_its_power_is_terminated(cloud: Cloud) -> None:
    instance = cloud.launch(by_interface=True, InstanceInitiatedShutdownBehavior="terminate").until("running")
    instance.says("true")
    instance.ssh("sudo systemctl poweroff")
    instance.until("terminated")
    end = time.monotonic() + 10
    while cloud.left(instance):
        assert time.monotonic() < end
        time.sleep(0.1)


def test_one_whose_container_somebody_removes_cannot_be_started_any_more(cloud: Cloud) -> None:
    instance = cloud.launch().until("running")
    engine("rm", "--force", "--volumes", f"mlops-env-{instance.id}")
    instance.until("stopped")
    cloud.ec2.start_instances(InstanceIds=[instance.id])
    assert instance.until("terminated").look()["StateReason"]["Code"] == "Server.InternalError"
    assert cloud.left(instance) == []


def test_an_environment_without_hosts_gets_none(cloud: Cloud) -> None:
    identity = str(uuid.uuid4())
    cloud.running.without_host(identity)
    instance = cloud.launch(identity=identity).until("running")
    assert cloud.left(instance) == []
    assert instance.address
    instance.end()


def test_faults_of_hosts(cloud: Cloud) -> None:
    """Together, as each takes as long as a boot."""
    lost, failing, busy = (cloud.launch(fault) for fault in ("ssh-lost", "user-data", "apt-lock"))
    assert "error" in failing.until("running").says("cloud-init status --wait || true")
    busy.until("running")
    assert busy.says("sudo apt-get install --yes nothing 2>&1 || true").startswith("E: Could not get lock")
    assert lost.until("running").ssh("true").returncode == 255
    assert lost.inside("systemctl is-active ssh || true") == "inactive"
    assert lost.inside("systemctl is-active --quiet multi-user.target && echo booted") == "booted"
    assert "cloud-init" in cloud.ec2.get_console_output(InstanceId=lost.id)["Output"]
    for one in (lost, failing, busy):
        one.end()


def test_the_image_is_built_once(cloud: Cloud) -> None:
    told: list[Event] = []
    control.ensure(cloud.running.directory, told.append, with_hosts=True)
    assert told == []


def test_an_image_that_is_not_to_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(host_image.OVERRIDE, "registry.invalid/course/host:1")
    with pytest.raises(MlopsEnvError, match=r"registry\.invalid/course/host:1") as raised:
        control.ensure(tmp_path / "sandbox", lambda _: None, with_hosts=True)
    assert raised.value.code == "sandbox-image"
    assert control.running(tmp_path / "sandbox") is None


@pytest.mark.parametrize("again", ["stop", "ensure"])
def test_what_a_killed_sandbox_leaves_is_found(again: str, tmp_path: Path) -> None:
    cloud = Cloud(control.ensure(tmp_path / "sandbox", lambda _: None, with_hosts=True), tmp_path)
    instance = cloud.launch().until("running")
    os.kill(cloud.running.pid, signal.SIGKILL)
    _until_gone(cloud.running.directory)
    assert len(cloud.left(instance)) == 2
    if again == "ensure":
        control.ensure(tmp_path / "sandbox", lambda _: None, with_hosts=True)
        assert cloud.left(instance) == []
    rows = {row.kind: (row.found, row.left) for row in control.stop(tmp_path / "sandbox", lambda _: None)}
    found = 1 if again == "stop" else 0
    assert rows["container"] == rows["volume"] == (found, 0)
    assert rows["network"] == (1, 0)
    assert _networks(tmp_path / "sandbox") == []


def _until_gone(directory: Path) -> None:
    end = time.monotonic() + 10
    while control.running(directory):
        assert time.monotonic() < end
        time.sleep(0.05)


def _networks(directory: Path) -> Sequence[str]:
    return engine("network", "ls", "--quiet", f"--filter=label={traces.LABEL}={traces.digest(directory)}").split()
