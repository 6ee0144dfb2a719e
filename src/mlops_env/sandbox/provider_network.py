"""The network of a host: VPC, internet gateway, subnet, and the route out."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, ClassVar

from botocore.exceptions import ClientError

from mlops_env.sandbox.provider_kind import Kind, code_of, found, remove, tag_specification, tags_of

if TYPE_CHECKING:
    from mlops_env.sandbox.wire import Values


class Vpc(Kind):
    required = frozenset({"cidrBlock"})
    optional = frozenset({"enableDnsHostnames", "enableDnsSupport", "tags"})
    fixed = frozenset({"cidrBlock"})
    computed = frozenset({"ownerId"})
    _switches: ClassVar = {"enableDnsSupport": "EnableDnsSupport", "enableDnsHostnames": "EnableDnsHostnames"}

    def create(self, ec2: Any, inputs: Values) -> str:
        vpc = ec2.create_vpc(CidrBlock=inputs["cidrBlock"], **tag_specification(inputs, "vpc"))
        return str(vpc["Vpc"]["VpcId"])

    def settle(self, ec2: Any, id_: str, inputs: Values) -> None:
        super().settle(ec2, id_, inputs)
        self._switch(ec2, id_, inputs)

    def _switch(self, ec2: Any, id_: str, inputs: Values) -> None:
        for name, theirs in self._switches.items():
            if name in inputs:
                ec2.modify_vpc_attribute(VpcId=id_, **{theirs: {"Value": inputs[name]}})

    def look(self, ec2: Any, id_: str, state: Values) -> Values | None:
        vpc = found(lambda: ec2.describe_vpcs(VpcIds=[id_])["Vpcs"])
        if not vpc:
            return None
        return {
            "cidrBlock": vpc["CidrBlock"],
            "ownerId": vpc.get("OwnerId", ""),
            "tags": tags_of(vpc),
            **{
                name: ec2.describe_vpc_attribute(VpcId=id_, Attribute=name)[theirs]["Value"]
                for name, theirs in self._switches.items()
                if name in state
            },
        }

    def change(self, ec2: Any, id_: str, old: Values, new: Values) -> None:
        super().change(ec2, id_, old, new)
        self._switch(ec2, id_, new)

    def delete(self, ec2: Any, id_: str, _state: Values) -> None:
        remove(lambda: ec2.delete_vpc(VpcId=id_))


class InternetGateway(Kind):
    required = frozenset()
    optional = frozenset({"vpcId", "tags"})
    computed = frozenset({"ownerId"})

    def create(self, ec2: Any, inputs: Values) -> str:
        gateway = ec2.create_internet_gateway(**tag_specification(inputs, "internet-gateway"))
        return str(gateway["InternetGateway"]["InternetGatewayId"])

    def settle(self, ec2: Any, id_: str, inputs: Values) -> None:
        super().settle(ec2, id_, inputs)
        self._attach(ec2, id_, inputs.get("vpcId", ""))

    def _attach(self, ec2: Any, id_: str, vpc_id: str) -> None:
        if not vpc_id:
            return
        try:
            ec2.attach_internet_gateway(InternetGatewayId=id_, VpcId=vpc_id)
        except ClientError as error:
            if code_of(error) != "Resource.AlreadyAssociated":
                raise

    def look(self, ec2: Any, id_: str, _state: Values) -> Values | None:
        gateway = found(lambda: ec2.describe_internet_gateways(InternetGatewayIds=[id_])["InternetGateways"])
        if not gateway:
            return None
        vpcs = [attachment["VpcId"] for attachment in gateway.get("Attachments", ())]
        return {
            "vpcId": vpcs[0] if vpcs else "",
            "ownerId": gateway.get("OwnerId", ""),
            "tags": tags_of(gateway),
        }

    def change(self, ec2: Any, id_: str, old: Values, new: Values) -> None:
        super().change(ec2, id_, old, new)
        if old.get("vpcId") != new.get("vpcId"):
            self._detach(ec2, id_, old.get("vpcId", ""))
            self._attach(ec2, id_, new.get("vpcId", ""))

    def _detach(self, ec2: Any, id_: str, vpc_id: str) -> None:
        if vpc_id:
            remove(lambda: ec2.detach_internet_gateway(InternetGatewayId=id_, VpcId=vpc_id))

    def delete(self, ec2: Any, id_: str, state: Values) -> None:
        live = self.look(ec2, id_, state)
        if live:
            self._detach(ec2, id_, live["vpcId"])
            remove(lambda: ec2.delete_internet_gateway(InternetGatewayId=id_))


class Subnet(Kind):
    required = frozenset({"vpcId", "cidrBlock"})
    optional = frozenset({"availabilityZone", "mapPublicIpOnLaunch", "tags"})
    fixed = frozenset({"vpcId", "cidrBlock", "availabilityZone"})
    computed = frozenset({"availabilityZone", "ownerId"})

    def create(self, ec2: Any, inputs: Values) -> str:
        zone = {"AvailabilityZone": inputs["availabilityZone"]} if "availabilityZone" in inputs else {}
        subnet = ec2.create_subnet(
            VpcId=inputs["vpcId"], CidrBlock=inputs["cidrBlock"], **zone, **tag_specification(inputs, "subnet")
        )
        return str(subnet["Subnet"]["SubnetId"])

    def settle(self, ec2: Any, id_: str, inputs: Values) -> None:
        super().settle(ec2, id_, inputs)
        self._map(ec2, id_, inputs)

    def _map(self, ec2: Any, id_: str, inputs: Values) -> None:
        if "mapPublicIpOnLaunch" in inputs:
            ec2.modify_subnet_attribute(SubnetId=id_, MapPublicIpOnLaunch={"Value": inputs["mapPublicIpOnLaunch"]})

    def look(self, ec2: Any, id_: str, _state: Values) -> Values | None:
        subnet = found(lambda: ec2.describe_subnets(SubnetIds=[id_])["Subnets"])
        return subnet and {
            "vpcId": subnet["VpcId"],
            "cidrBlock": subnet["CidrBlock"],
            "availabilityZone": subnet["AvailabilityZone"],
            "mapPublicIpOnLaunch": subnet["MapPublicIpOnLaunch"],
            "ownerId": subnet.get("OwnerId", ""),
            "tags": tags_of(subnet),
        }

    def change(self, ec2: Any, id_: str, old: Values, new: Values) -> None:
        super().change(ec2, id_, old, new)
        self._map(ec2, id_, new)

    def delete(self, ec2: Any, id_: str, _state: Values) -> None:
        remove(lambda: ec2.delete_subnet(SubnetId=id_))


class RouteTable(Kind):
    required = frozenset({"vpcId"})
    fixed = frozenset({"vpcId"})
    computed = frozenset({"ownerId"})

    def create(self, ec2: Any, inputs: Values) -> str:
        table = ec2.create_route_table(VpcId=inputs["vpcId"], **tag_specification(inputs, "route-table"))
        return str(table["RouteTable"]["RouteTableId"])

    def look(self, ec2: Any, id_: str, _state: Values) -> Values | None:
        table = found(lambda: ec2.describe_route_tables(RouteTableIds=[id_])["RouteTables"])
        return table and {"vpcId": table["VpcId"], "ownerId": table.get("OwnerId", ""), "tags": tags_of(table)}

    def delete(self, ec2: Any, id_: str, _state: Values) -> None:
        remove(lambda: ec2.delete_route_table(RouteTableId=id_))


class Route(Kind):
    """Has no id of its own: the real provider's is made of the table's and a checksum of the destination."""

    required = frozenset({"routeTableId", "destinationCidrBlock", "gatewayId"})
    optional = frozenset()
    fixed = frozenset({"routeTableId", "destinationCidrBlock"})
    computed = frozenset({"state"})

    def create(self, ec2: Any, inputs: Values) -> str:
        ec2.create_route(**_route(inputs), GatewayId=inputs["gatewayId"])
        return f"r-{inputs['routeTableId']}{zlib.crc32(inputs['destinationCidrBlock'].encode())}"

    def look(self, ec2: Any, _id: str, state: Values) -> Values | None:
        table = found(lambda: ec2.describe_route_tables(RouteTableIds=[state["routeTableId"]])["RouteTables"])
        for route in table["Routes"] if table else ():
            if route.get("DestinationCidrBlock") == state["destinationCidrBlock"]:
                return {"gatewayId": route.get("GatewayId", ""), "state": route["State"]}
        return None

    def change(self, ec2: Any, _id: str, _old: Values, new: Values) -> None:
        ec2.replace_route(**_route(new), GatewayId=new["gatewayId"])

    def delete(self, ec2: Any, _id: str, state: Values) -> None:
        remove(lambda: ec2.delete_route(**_route(state)))


def _route(values: Values) -> dict[str, str]:
    return {"RouteTableId": values["routeTableId"], "DestinationCidrBlock": values["destinationCidrBlock"]}


class RouteTableAssociation(Kind):
    required = frozenset({"routeTableId", "subnetId"})
    optional = frozenset()
    # The real provider moves an association to another table, which renames it; here that takes a new one.
    fixed = frozenset({"routeTableId", "subnetId"})
    exclusive = True

    def create(self, ec2: Any, inputs: Values) -> str:
        made = ec2.associate_route_table(RouteTableId=inputs["routeTableId"], SubnetId=inputs["subnetId"])
        return str(made["AssociationId"])

    def look(self, ec2: Any, id_: str, _state: Values) -> Values | None:
        by_id = [{"Name": "association.route-table-association-id", "Values": [id_]}]
        table = found(lambda: ec2.describe_route_tables(Filters=by_id)["RouteTables"])
        for association in table["Associations"] if table else ():
            if association["RouteTableAssociationId"] == id_:
                return {"routeTableId": table["RouteTableId"], "subnetId": association.get("SubnetId", "")}
        return None

    def delete(self, ec2: Any, id_: str, _state: Values) -> None:
        remove(lambda: ec2.disassociate_route_table(AssociationId=id_))
