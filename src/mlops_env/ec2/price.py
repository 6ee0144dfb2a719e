"""What a host costs by the hour: what AWS's price list says now, else a dated table that says so."""

from __future__ import annotations

import json
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_env.ec2.aws import named
from mlops_env.errors import MlopsEnvError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlops_env.ec2.aws import Aws
    from mlops_env.ec2.plan import Plan

HOURS_A_MONTH = 730
_TABLE = Path(__file__).with_name("prices.toml")
_PRICE_LIST_REGION = "us-east-1"


@dataclass(frozen=True)
class Price:
    """List prices in USD an hour, before tax, data transfer and CPU credits; `source` says whose figures they are."""

    instance_hour: float
    disk_hour: float
    address_hour: float
    source: str

    @property
    def per_hour(self) -> float:
        return self.instance_hour + self.disk_hour + self.address_hour

    @property
    def per_month(self) -> float:
        return self.per_hour * HOURS_A_MONTH

    @property
    def stopped_per_month(self) -> float:
        """The disk stays; the address goes back to AWS with the stop."""
        return self.disk_hour * HOURS_A_MONTH

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def from_json(values: Mapping[str, Any]) -> Price:
    return Price(**values)


def ask(aws: Aws, plan: Plan) -> Price | None:
    """The price of what the plan makes; None if neither AWS nor the table knows it. Takes seconds at most."""
    return _listed(aws, plan) or _from_table(plan)


def _listed(aws: Aws, plan: Plan) -> Price | None:
    instance = {
        "instanceType": plan.instance_type,
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        "preInstalledSw": "NA",
        "capacitystatus": "Used",
    }
    with ThreadPoolExecutor(3) as pool:
        prices = (
            pool.submit(_one, aws, "AmazonEC2", instance),
            pool.submit(_one, aws, "AmazonEC2", {"productFamily": "Storage", "volumeApiName": "gp3"}),
            pool.submit(_one, aws, "AmazonVPC", {"group": "VPCPublicIPv4Address"}, "PublicIPv4:InUseAddress"),
        )
    instance_hour, disk_gb_month, address_hour = (price.result() for price in prices)
    if instance_hour is None or disk_gb_month is None or address_hour is None:
        return None
    return Price(instance_hour, _disk_hour(disk_gb_month, plan), address_hour, "AWS's price list")


def _one(aws: Aws, service: str, attributes: Mapping[str, str], usage: str = "") -> float | None:
    """The one price of the products with these attributes in the region, whose usage type ends so."""
    filters = [
        {"Type": "TERM_MATCH", "Field": field, "Value": value}
        for field, value in {**attributes, "regionCode": aws.region}.items()
    ]
    try:
        with named("asking for the price"):
            client = aws.client("pricing", region=_PRICE_LIST_REGION, patient=False)
            products = client.get_products(ServiceCode=service, Filters=filters)["PriceList"]
    except MlopsEnvError:
        return None
    # Capacity that was reserved before is listed too, at 0.
    prices = {_usd(product) for product in map(json.loads, products) if _is_for(product, usage)} - {0.0}
    return prices.pop() if len(prices) == 1 else None


def _is_for(product: Mapping[str, Any], usage: str) -> bool:
    return str(product["product"]["attributes"].get("usagetype", "")).endswith(usage)


def _usd(product: Mapping[str, Any]) -> float | None:
    """Of the first on-demand term; None for a price in another currency or with steps."""
    dimensions = [
        dimension
        for term in product["terms"].get("OnDemand", {}).values()
        for dimension in term["priceDimensions"].values()
    ]
    if len(dimensions) != 1 or "USD" not in dimensions[0]["pricePerUnit"]:
        return None
    return float(dimensions[0]["pricePerUnit"]["USD"])


def table_date() -> str:
    """Of which day the figures of our table are."""
    return str(_table()["as_of"])


def _table() -> dict[str, Any]:
    return tomllib.loads(_TABLE.read_text(encoding="utf-8"))


def _from_table(plan: Plan) -> Price | None:
    table = _table()
    prices = table.get(plan.region, {})
    if plan.instance_type not in prices:
        return None
    return Price(
        prices[plan.instance_type],
        _disk_hour(prices["gp3_gb_month"], plan),
        table["public_ipv4_hour"],
        f"list prices of {table['as_of']}; today's could not be had",
    )


def _disk_hour(gb_month: float, plan: Plan) -> float:
    return gb_month * plan.disk_gb / HOURS_A_MONTH
