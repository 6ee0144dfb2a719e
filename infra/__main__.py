"""The Pulumi program by hand: `pulumi up` with the configuration that Pulumi.yaml declares."""

from __future__ import annotations

import pulumi

from mlops_env_infra import ec2, userdata


def _host(config: pulumi.Config) -> ec2.Ec2HostArgs:
    hours = config.require_int("ttlHours")
    return ec2.Ec2HostArgs(
        environment=pulumi.get_stack(),
        identity=config.require("identity"),
        owner=config.require("owner"),
        region=config.require("region"),
        zone=config.require("zone"),
        instance_type=config.require("instanceType"),
        ami=config.require("ami"),
        public_key=config.require("publicKey"),
        allowed_cidr=config.require("allowedCidr"),
        # No host key: it would be a secret in the configuration. The host makes its own.
        user_data=userdata.render(ttl_seconds=hours * 3600 or None),
        profile=config.require("profile"),
        vpc_id=config.require("vpcId"),
        subnet_id=config.require("subnetId"),
        disk_gb=config.require_int("diskGb"),
        on_shutdown=config.require("onShutdown"),
    )


def main() -> None:
    config = pulumi.Config("mlops-env")
    target = config.require("target")
    if target != "ec2":
        raise pulumi.RunError(f"mlops-env:target is {target!r}; there is only 'ec2'")
    try:
        host = _host(config)
    except ValueError as error:
        raise pulumi.RunError(f"the configuration makes no host: {error}") from error
    ec2.program(host)


main()
