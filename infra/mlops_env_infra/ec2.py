"""A host on EC2 that only its owner can reach, with a network of its own where the account has none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pulumi
import pulumi_aws as aws

from mlops_env_infra.args import Ec2HostArgs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Ec2Host", "Ec2HostArgs", "program"]

_SSH = 22
_ANYWHERE = "0.0.0.0/0"
# The provider's own 25 take many minutes to say that a zone has no capacity: AWS calls that a fault of its servers.
_RETRIES = 5

# A host stays as it was made: no newer image or other key replaces it, and neither does its being stopped, when the
# provider misses its public address (hashicorp/terraform-provider-aws#33775).
_SETTLED = ["ami", "subnet_id", "key_name", "user_data", "associate_public_ip_address"]


class Ec2Host(pulumi.ComponentResource):
    """One instance, the only open port of which is that of ssh, for one address. It has no role on AWS.

    `outputs` are also what `program` exports.
    """

    outputs: Mapping[str, pulumi.Output[str]]

    def __init__(self, name: str, args: Ec2HostArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("mlops-env:ec2:Host", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        network = _Network(args.vpc_id, args.subnet_id) if args.vpc_id else _own_network(name, args, child)
        firewall = _firewall(name, args, network, child)
        key = _key_pair(name, args, child)
        instance = _instance(name, args, network, firewall, key, child)
        self.outputs = {
            "instance_id": instance.id,
            "public_ip": instance.public_ip,
            "security_group_id": firewall.group.id,
            "ingress_rule_id": firewall.ssh.id,
            "key_name": key.key_name,
            "zone": instance.availability_zone,
        }
        self.register_outputs(dict(self.outputs))


@dataclass(frozen=True)
class _Network:
    """`routes` are to be there before an instance boots, and until it is gone."""

    vpc_id: pulumi.Input[str]
    subnet_id: pulumi.Input[str]
    routes: Sequence[pulumi.Resource] = ()


@dataclass(frozen=True)
class _Firewall:
    group: aws.ec2.SecurityGroup
    ssh: aws.vpc.SecurityGroupIngressRule
    outward: aws.vpc.SecurityGroupEgressRule


def _own_network(name: str, args: Ec2HostArgs, opts: pulumi.ResourceOptions) -> _Network:
    vpc = aws.ec2.Vpc(f"{name}-vpc", cidr_block="10.77.0.0/16", tags=args.tags, opts=opts)
    gateway = aws.ec2.InternetGateway(f"{name}-gateway", vpc_id=vpc.id, tags=args.tags, opts=opts)
    # A search for capacity leaves one subnet, not one a zone whose addresses the next search needs.
    moving = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(delete_before_replace=True))
    subnet = aws.ec2.Subnet(
        f"{name}-subnet",
        vpc_id=vpc.id,
        cidr_block=f"10.77.{args.subnet_index}.0/24",
        availability_zone=args.zone or None,
        tags=args.tags,
        opts=moving,
    )
    table = aws.ec2.RouteTable(f"{name}-routes", vpc_id=vpc.id, tags=args.tags, opts=opts)
    route = aws.ec2.Route(
        f"{name}-route",
        route_table_id=table.id,
        destination_cidr_block=_ANYWHERE,
        gateway_id=gateway.id,
        opts=opts,
    )
    association = aws.ec2.RouteTableAssociation(
        f"{name}-association", route_table_id=table.id, subnet_id=subnet.id, opts=moving
    )
    return _Network(vpc.id, subnet.id, (route, association))


def _firewall(name: str, args: Ec2HostArgs, network: _Network, opts: pulumi.ResourceOptions) -> _Firewall:
    group = aws.ec2.SecurityGroup(
        f"{name}-firewall",
        name=args.physical_name,
        description="ssh from one address",
        vpc_id=network.vpc_id,
        tags=args.tags,
        opts=opts,
    )
    ssh = aws.vpc.SecurityGroupIngressRule(
        f"{name}-ssh",
        security_group_id=group.id,
        ip_protocol="tcp",
        from_port=_SSH,
        to_port=_SSH,
        cidr_ipv4=args.allowed_cidr,
        tags=args.tags,
        opts=opts,
    )
    outward = aws.vpc.SecurityGroupEgressRule(
        f"{name}-outward",
        security_group_id=group.id,
        ip_protocol="-1",
        cidr_ipv4=_ANYWHERE,
        tags=args.tags,
        opts=opts,
    )
    return _Firewall(group, ssh, outward)


def _key_pair(name: str, args: Ec2HostArgs, opts: pulumi.ResourceOptions) -> aws.ec2.KeyPair:
    return aws.ec2.KeyPair(
        f"{name}-key",
        key_name=args.physical_name,
        public_key=args.public_key,
        tags=args.tags,
        opts=pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(ignore_changes=["public_key"])),
    )


def _instance(
    name: str,
    args: Ec2HostArgs,
    network: _Network,
    firewall: _Firewall,
    key: aws.ec2.KeyPair,
    opts: pulumi.ResourceOptions,
) -> aws.ec2.Instance:
    return aws.ec2.Instance(
        f"{name}-instance",
        ami=args.ami,
        instance_type=args.instance_type,
        subnet_id=network.subnet_id,
        vpc_security_group_ids=[firewall.group.id],
        associate_public_ip_address=True,
        key_name=key.key_name,
        user_data=pulumi.Output.secret(args.user_data),
        instance_initiated_shutdown_behavior=args.on_shutdown,
        # A container on the host is one hop further away than the host: it learns nothing from the metadata service.
        metadata_options=aws.ec2.InstanceMetadataOptionsArgs(
            http_endpoint="enabled", http_tokens="required", http_put_response_hop_limit=1
        ),
        root_block_device=aws.ec2.InstanceRootBlockDeviceArgs(
            volume_type="gp3", volume_size=args.disk_gb, encrypted=True, delete_on_termination=True
        ),
        tags=args.tags,
        volume_tags=args.tags,
        opts=pulumi.ResourceOptions.merge(
            opts,
            pulumi.ResourceOptions(
                depends_on=[firewall.ssh, firewall.outward, *network.routes],
                ignore_changes=_SETTLED,
                additional_secret_outputs=["user_data", "user_data_base64"],
            ),
        ),
    )


def program(args: Ec2HostArgs) -> None:
    """All that a stack holds: the host under a provider of its own, so that no ambient region or profile counts."""
    provider = aws.Provider("aws", region=args.region, profile=args.profile or None, max_retries=_RETRIES)
    host = Ec2Host("host", args, pulumi.ResourceOptions(providers=[provider]))
    for name, value in host.outputs.items():
        pulumi.export(name, value)
