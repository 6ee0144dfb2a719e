"""Who may reach a host: key pair, security group, and its rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from mlops_env.sandbox.provider_kind import Kind, found, remove, tag_specification, tags_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlops_env.sandbox.wire import Values


class KeyPair(Kind):
    """Its id is its name."""

    required = frozenset({"keyName", "publicKey"})
    fixed = frozenset({"keyName", "publicKey"})
    computed = frozenset({"keyPairId", "fingerprint"})
    exclusive = True

    def create(self, ec2: Any, inputs: Values) -> str:
        pair = ec2.import_key_pair(
            KeyName=inputs["keyName"],
            PublicKeyMaterial=inputs["publicKey"].encode(),
            **tag_specification(inputs, "key-pair"),
        )
        return str(pair["KeyName"])

    def look(self, ec2: Any, id_: str, _state: Values) -> Values | None:
        pair = found(lambda: ec2.describe_key_pairs(KeyNames=[id_])["KeyPairs"])
        return pair and {
            "keyName": pair["KeyName"],
            "keyPairId": pair["KeyPairId"],
            "fingerprint": pair["KeyFingerprint"],
            "tags": tags_of(pair),
        }

    def change(self, ec2: Any, id_: str, old: Values, new: Values) -> None:
        live = self.look(ec2, id_, new)
        if live:  # tags go by the pair's real id, which is not its name
            super().change(ec2, live["keyPairId"], old, new)

    def delete(self, ec2: Any, id_: str, _state: Values) -> None:
        remove(lambda: ec2.delete_key_pair(KeyName=id_))


class SecurityGroup(Kind):
    """Allows nothing by itself, as with the real provider: AWS's own rule for everything outgoing is revoked."""

    required = frozenset({"name", "vpcId"})
    optional = frozenset({"description", "tags"})
    defaults: ClassVar[dict[str, Any]] = {"description": "Managed by Pulumi"}
    fixed = frozenset({"name", "vpcId", "description"})
    computed = frozenset({"ownerId"})
    exclusive = True

    def create(self, ec2: Any, inputs: Values) -> str:
        group = ec2.create_security_group(
            GroupName=inputs["name"],
            Description=inputs["description"],
            VpcId=inputs["vpcId"],
            **tag_specification(inputs, "security-group"),
        )
        return str(group["GroupId"])

    def settle(self, ec2: Any, id_: str, inputs: Values) -> None:
        super().settle(ec2, id_, inputs)
        rules = _rules_by_aws(ec2, id_)
        if rules:
            ec2.revoke_security_group_egress(GroupId=id_, SecurityGroupRuleIds=rules)

    def is_settled(self, ec2: Any, id_: str, _live: Values) -> bool:
        return not _rules_by_aws(ec2, id_)

    def look(self, ec2: Any, id_: str, _state: Values) -> Values | None:
        group = found(lambda: ec2.describe_security_groups(GroupIds=[id_])["SecurityGroups"])
        return group and {
            "name": group["GroupName"],
            "description": group["Description"],
            "vpcId": group["VpcId"],
            "ownerId": group["OwnerId"],
            "tags": tags_of(group),
        }

    def delete(self, ec2: Any, id_: str, _state: Values) -> None:
        remove(lambda: ec2.delete_security_group(GroupId=id_))


def _rules_by_aws(ec2: Any, group: str) -> list[str]:
    """The one that every new group has: everything outgoing, and of course without our tags."""
    of_group = [{"Name": "group-id", "Values": [group]}]
    rules = ec2.describe_security_group_rules(Filters=of_group)["SecurityGroupRules"]
    return [rule["SecurityGroupRuleId"] for rule in rules if _is_by_aws(rule)]


def _is_by_aws(rule: Mapping[str, Any]) -> bool:
    is_all = rule["IsEgress"] and rule["IpProtocol"] == "-1" and rule.get("CidrIpv4") == "0.0.0.0/0"
    return is_all and not rule.get("Tags")


class SecurityGroupRule(Kind):
    """A rule for one block of addresses."""

    required = frozenset({"securityGroupId", "ipProtocol", "cidrIpv4"})
    optional = frozenset({"fromPort", "toPort", "description", "tags"})
    fixed = frozenset({"securityGroupId"})
    computed = frozenset({"securityGroupRuleId"})

    def __init__(self, direction: str) -> None:
        self._direction = direction

    def create(self, ec2: Any, inputs: Values) -> str:
        authorize = getattr(ec2, f"authorize_security_group_{self._direction}")
        permission = {**_ports(inputs), "IpRanges": [{"CidrIp": inputs["cidrIpv4"], **_description(inputs)}]}
        made = authorize(
            GroupId=inputs["securityGroupId"],
            IpPermissions=[permission],
            **tag_specification(inputs, "security-group-rule"),
        )
        return str(made["SecurityGroupRules"][0]["SecurityGroupRuleId"])

    def look(self, ec2: Any, id_: str, _state: Values) -> Values | None:
        rule = found(lambda: ec2.describe_security_group_rules(SecurityGroupRuleIds=[id_])["SecurityGroupRules"])
        if not rule:
            return None
        has_ports = rule["IpProtocol"] != "-1"
        return {
            "securityGroupId": rule["GroupId"],
            "ipProtocol": rule["IpProtocol"],
            "cidrIpv4": rule.get("CidrIpv4", ""),
            "securityGroupRuleId": id_,
            "tags": tags_of(rule),
            **({"fromPort": rule["FromPort"], "toPort": rule["ToPort"]} if has_ports else {}),
        }

    def change(self, ec2: Any, id_: str, old: Values, new: Values) -> None:
        super().change(ec2, id_, old, new)
        rule = {**_ports(new), "CidrIpv4": new["cidrIpv4"], **_description(new)}
        if rule != {**_ports(old), "CidrIpv4": old["cidrIpv4"], **_description(old)}:
            ec2.modify_security_group_rules(
                GroupId=new["securityGroupId"],
                SecurityGroupRules=[{"SecurityGroupRuleId": id_, "SecurityGroupRule": rule}],
            )

    def delete(self, ec2: Any, id_: str, state: Values) -> None:
        revoke = getattr(ec2, f"revoke_security_group_{self._direction}")
        remove(lambda: revoke(GroupId=state["securityGroupId"], SecurityGroupRuleIds=[id_]))


def _ports(inputs: Values) -> Values:
    names = {"ipProtocol": "IpProtocol", "fromPort": "FromPort", "toPort": "ToPort"}
    return {theirs: inputs[ours] for ours, theirs in names.items() if ours in inputs}


def _description(inputs: Values) -> Values:
    return {"Description": inputs["description"]} if inputs.get("description") else {}
