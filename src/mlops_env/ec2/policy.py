"""The least that an IAM policy has to allow for target ec2; `mlops-env iam-policy` prints it."""

from __future__ import annotations

from typing import Any

from mlops_env_infra import tags

_MADE = {
    "CreateInternetGateway": ("internet-gateway",),
    "CreateRouteTable": ("route-table",),
    "CreateSecurityGroup": ("security-group",),
    "CreateSubnet": ("subnet",),
    "CreateVpc": ("vpc",),
    "ImportKeyPair": ("key-pair",),
    "RunInstances": ("instance", "volume"),
    "AuthorizeSecurityGroupEgress": ("security-group-rule",),
    "AuthorizeSecurityGroupIngress": ("security-group-rule",),
}
"""What each action makes, only ever with the environment's tag on it."""

_OWN = (
    "AssociateRouteTable",
    "AttachInternetGateway",
    "AuthorizeSecurityGroupEgress",
    "AuthorizeSecurityGroupIngress",
    "CreateRoute",
    "CreateRouteTable",
    "CreateSubnet",
    "CreateTags",
    "DeleteInternetGateway",
    "DeleteKeyPair",
    "DeleteNetworkInterface",
    "DeleteRoute",
    "DeleteRouteTable",
    "DeleteSecurityGroup",
    "DeleteSnapshot",
    "DeleteSubnet",
    "DeleteTags",
    "DeleteVolume",
    "DeleteVpc",
    "DetachInternetGateway",
    "DisassociateAddress",
    "DisassociateRouteTable",
    "GetConsoleOutput",
    "ModifyInstanceAttribute",
    "ModifyInstanceMetadataOptions",
    "ModifySecurityGroupRules",
    "ModifySubnetAttribute",
    "ModifyVolume",
    "ModifyVpcAttribute",
    "ReleaseAddress",
    "ReplaceRoute",
    "RevokeSecurityGroupEgress",
    "RevokeSecurityGroupIngress",
    "StartInstances",
    "StopInstances",
    "TerminateInstances",
)
"""Actions on what bears the tag already."""

_ASKED = (
    "ec2:Describe*",
    "iam:ListInstanceProfiles",
    "iam:ListRoles",
    "logs:DescribeLogGroups",
    "pricing:GetProducts",
    "servicequotas:GetServiceQuota",
    "sts:GetCallerIdentity",
)
_IMAGES = ("debian", "canonical/ubuntu")


def document() -> dict[str, Any]:
    """The policy as JSON. It changes nothing that some mlops-env has not made, in whatever region.

    Condition keys: https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html
    """
    is_tagged_now = {"Null": {f"aws:RequestTag/{tags.IDENTITY}": "false"}}
    is_tagged = {"Null": {f"aws:ResourceTag/{tags.IDENTITY}": "false"}}
    statements = [
        _statement("Ask", _ASKED, ["*"]),
        _statement(
            "AskForImages",
            ("ssm:GetParameter",),
            [f"arn:aws:ssm:*::parameter/aws/service/{name}/*" for name in _IMAGES],
        ),
        *(
            _statement(f"Make{action}", (f"ec2:{action}",), _of_ec2(*kinds), is_tagged_now)
            for action, kinds in _MADE.items()
        ),
        _statement(
            "TagWhatIsMade", ("ec2:CreateTags",), _of_ec2("*"), {"StringEquals": {"ec2:CreateAction": list(_MADE)}}
        ),
        # The default network is not ours and has no tag; nor have the image and the interface that AWS makes.
        _statement("UseDefaultNetwork", ("ec2:CreateSecurityGroup",), _of_ec2("vpc")),
        _statement(
            "UseImage", ("ec2:RunInstances",), ["arn:aws:ec2:*::image/*", *_of_ec2("network-interface", "subnet")]
        ),
        _statement("UseOwn", ("ec2:RunInstances",), _of_ec2("key-pair", "security-group"), is_tagged),
        _statement("ActOnOwn", tuple(f"ec2:{action}" for action in _OWN), _of_ec2("*"), is_tagged),
    ]
    return {"Version": "2012-10-17", "Statement": statements}


def _statement(
    name: str, actions: tuple[str, ...], resources: list[str], condition: dict[str, Any] | None = None
) -> dict[str, Any]:
    statement = {"Sid": name, "Effect": "Allow", "Action": list(actions), "Resource": resources}
    return {**statement, "Condition": condition} if condition else statement


def _of_ec2(*kinds: str) -> list[str]:
    return [f"arn:aws:ec2:*:*:{kind}/*" for kind in kinds]
