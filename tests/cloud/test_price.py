"""What a host costs: by AWS's price list, by the dated table where that does not answer, never by a made-up figure."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING

import pytest
from botocore.stub import Stubber

from mlops_env.ec2 import price
from mlops_env.ec2.aws import Aws
from mlops_env.ec2.plan import Plan
from mlops_env.ec2.price import Price

from .estate import aws_of

if TYPE_CHECKING:
    from mlops_env.sandbox.control import Running

TABLE = tomllib.loads(price._TABLE.read_text())
_ALWAYS = 1000


@pytest.fixture
def aws(sandbox: Running) -> Aws:
    return aws_of(sandbox, "eu-central-1")


def _plan(region: str = "eu-central-1", instance_type: str = "t3.large", disk_gb: int = 40) -> Plan:
    return Plan(
        region, "123456789012", instance_type, 2, 8, "debian12", "ami-1", "x86_64", "admin", disk_gb, ("a",), "", {}
    )


def _no_price_list(sandbox: Running, code: str = "AccessDeniedException", delay: float = 0) -> None:
    rule = {"action": "GetProducts", "code": code, "status": 400, "times": _ALWAYS, "delay": delay}
    sandbox.call("POST", "/sandbox/faults", {"rules": [rule]})


def test_awss_price_list_is_asked_for_instance_disk_and_address(aws: Aws) -> None:
    told = price.ask(aws, _plan())
    assert told
    assert told.source == "AWS's price list"
    assert told.instance_hour == TABLE["eu-central-1"]["t3.large"]
    assert told.disk_hour == pytest.approx(TABLE["eu-central-1"]["gp3_gb_month"] * 40 / 730)
    assert told.address_hour == TABLE["public_ipv4_hour"]


@pytest.mark.parametrize("code", ["AccessDeniedException", "ThrottlingException", "ExpiredTokenException"])
def test_without_the_price_list_the_table_tells_its_date(aws: Aws, sandbox: Running, code: str) -> None:
    listed = price.ask(aws, _plan())
    _no_price_list(sandbox, code)
    told = price.ask(aws, _plan())
    assert told
    assert listed
    assert str(TABLE["as_of"]) in told.source
    assert told.per_hour == listed.per_hour


def test_a_price_list_that_takes_its_time_is_not_waited_for(aws: Aws, sandbox: Running) -> None:
    _no_price_list(sandbox, delay=8)
    told = price.ask(aws, _plan())
    assert told
    assert str(TABLE["as_of"]) in told.source


def test_what_neither_knows_has_no_price(aws: Aws, sandbox: Running) -> None:
    _no_price_list(sandbox)
    assert price.ask(aws, _plan(instance_type="u7i-12tb.224xlarge")) is None
    assert price.ask(aws, _plan(region="af-south-1")) is None


def _product(usage_type: str, usd: str) -> str:
    dimension = {"unit": "Hrs", "pricePerUnit": {"USD": usd}}
    return json.dumps(
        {
            "product": {"attributes": {"usagetype": usage_type, "regionCode": "eu-central-1"}},
            "terms": {"OnDemand": {"S.T": {"priceDimensions": {"S.T.R": dimension}}}},
        }
    )


@pytest.mark.parametrize(
    ("products", "expected"),
    [
        ([("EUC1-PublicIPv4:IdleAddress", "0.007"), ("EUC1-PublicIPv4:InUseAddress", "0.006")], 0.006),
        ([("EUC1-PublicIPv4:InUseAddress", "0.006"), ("EUC1-PublicIPv4:InUseAddress", "0.0000")], 0.006),
        ([("EUC1-PublicIPv4:InUseAddress", "0.006"), ("EUC1-PublicIPv4:InUseAddress", "0.007")], None),
        ([("EUC1-PublicIPv4:IdleAddress", "0.007")], None),
        ([], None),
    ],
)
def test_of_several_products_the_one_that_is_meant_counts_or_none(
    sandbox: Running, products: list[tuple[str, str]], expected: float | None
) -> None:
    aws = Aws("eu-central-1", "", sandbox.variables())
    with Stubber(aws.client("pricing", region="us-east-1", patient=False)) as stub:
        stub.add_response("get_products", {"PriceList": [_product(*product) for product in products]})
        assert price._one(aws, "AmazonVPC", {}, "PublicIPv4:InUseAddress") == expected


def test_a_stopped_host_costs_its_disk() -> None:
    told = Price(instance_hour=0.1, disk_hour=0.004, address_hour=0.005, source="test")
    assert told.per_hour == pytest.approx(0.109)
    assert told.per_month == pytest.approx(0.109 * 730)
    assert told.stopped_per_month == pytest.approx(0.004 * 730)


def test_a_price_is_the_same_after_it_was_recorded() -> None:
    told = Price(0.0832, 0.0033, 0.005, "test")
    assert price.from_json(json.loads(json.dumps(told.as_json()))) == told


def test_the_default_type_has_a_price_in_every_region_of_the_table() -> None:
    regions = {name: prices for name, prices in TABLE.items() if isinstance(prices, dict)}
    assert all({"t3.large", "gp3_gb_month"} <= prices.keys() for prices in regions.values())
    assert all(0 < figure < 1 for prices in regions.values() for figure in prices.values())
