"""What the program makes on AWS, made by hand: for tests of what finds and ends it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlops_env.ec2.aws import Aws
from mlops_env_infra import tags

if TYPE_CHECKING:
    from mlops_env.sandbox.control import Running

IMAGE = "/aws/service/debian/release/12/latest/amd64"
PUBLIC_KEY = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGzA4h2wqYv0WZ7cA2bVbX8X1Gl3M8c9mQbYb0lFzK1n test"

_KEPT: dict[tuple[str, str], Aws] = {}


def aws_of(sandbox: Running, region: str = "us-east-1") -> Aws:
    """Kept from test to test: to make the clients anew takes longer than most of them."""
    return _KEPT.setdefault((sandbox.endpoint, region), Aws(region, "", sandbox.variables()))


@dataclass
class Estate:
    """One environment's things; `made` has their ids by kind."""

    aws: Aws
    environment: str = "course"
    identity: str = field(default_factory=lambda: str(uuid.uuid4()))
    made: dict[str, str] = field(default_factory=dict)

    @property
    def ec2(self) -> Any:
        return self.aws.client("ec2")

    @property
    def name(self) -> str:
        return tags.physical_name(self.environment, self.identity)

    def tagged(self, *kinds: str) -> list[dict[str, Any]]:
        """The TagSpecifications of a call that makes these."""
        pairs = [
            {"Key": key, "Value": value} for key, value in tags.of(self.environment, self.identity, "ann@here").items()
        ]
        return [{"ResourceType": kind, "Tags": pairs} for kind in kinds]

    def network(self) -> Estate:
        ec2, made = self.ec2, self.made
        made["vpc"] = ec2.create_vpc(CidrBlock="10.77.0.0/16", TagSpecifications=self.tagged("vpc"))["Vpc"]["VpcId"]
        gateway = ec2.create_internet_gateway(TagSpecifications=self.tagged("internet-gateway"))["InternetGateway"]
        made["internet-gateway"] = gateway["InternetGatewayId"]
        ec2.attach_internet_gateway(InternetGatewayId=made["internet-gateway"], VpcId=made["vpc"])
        subnet = ec2.create_subnet(
            VpcId=made["vpc"], CidrBlock="10.77.0.0/24", TagSpecifications=self.tagged("subnet")
        )["Subnet"]
        made["subnet"] = subnet["SubnetId"]
        table = ec2.create_route_table(VpcId=made["vpc"], TagSpecifications=self.tagged("route-table"))["RouteTable"]
        made["route-table"] = table["RouteTableId"]
        ec2.create_route(
            RouteTableId=made["route-table"], DestinationCidrBlock="0.0.0.0/0", GatewayId=made["internet-gateway"]
        )
        association = ec2.associate_route_table(RouteTableId=made["route-table"], SubnetId=made["subnet"])
        made["association"] = association["AssociationId"]
        return self

    def firewall(self) -> Estate:
        """A security group that lets ssh in from 198.51.100.1; in the own network, or the default one."""
        ec2, made = self.ec2, self.made
        where = {"VpcId": made["vpc"]} if "vpc" in made else {}
        group = ec2.create_security_group(
            GroupName=self.name, Description="test", TagSpecifications=self.tagged("security-group"), **where
        )
        made["security-group"] = group["GroupId"]
        for direction, (protocol, ports, cidr) in {
            "ingress": ("tcp", {"FromPort": 22, "ToPort": 22}, "198.51.100.1/32"),
            "egress": ("tcp", {"FromPort": 1, "ToPort": 65535}, "0.0.0.0/0"),
        }.items():
            rule = {"IpProtocol": protocol, **ports, "IpRanges": [{"CidrIp": cidr}]}
            told = getattr(ec2, f"authorize_security_group_{direction}")(
                GroupId=made["security-group"],
                IpPermissions=[rule],
                TagSpecifications=self.tagged("security-group-rule"),
            )
            made[direction] = told["SecurityGroupRules"][0]["SecurityGroupRuleId"]
        return self

    def key(self) -> Estate:
        self.ec2.import_key_pair(
            KeyName=self.name, PublicKeyMaterial=PUBLIC_KEY, TagSpecifications=self.tagged("key-pair")
        )
        self.made["key-pair"] = self.name
        return self

    def host(self) -> Estate:
        """An instance with its disk; it does not run yet."""
        image = self.aws.client("ssm").get_parameter(Name=IMAGE)["Parameter"]["Value"]
        where = {"SubnetId": self.made["subnet"]} if "subnet" in self.made else {}
        groups = {"SecurityGroupIds": [self.made["security-group"]]} if "security-group" in self.made else {}
        (instance,) = self.ec2.run_instances(
            ImageId=image,
            InstanceType="t3.large",
            MinCount=1,
            MaxCount=1,
            TagSpecifications=self.tagged("instance", "volume"),
            **where,
            **groups,
        )["Instances"]
        self.made["instance"] = instance["InstanceId"]
        return self

    def whole(self) -> Estate:
        return self.network().firewall().key().host()
