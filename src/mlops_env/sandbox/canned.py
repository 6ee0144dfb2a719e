"""Answers that moto does not have: images of the public parameters, quotas, prices."""

from __future__ import annotations

import json
import tomllib
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_env.sandbox import call

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from werkzeug.wrappers import Response

    from mlops_env.sandbox.call import Call

IMAGES = Path(__file__).with_name("images.json")
"""In the form in which moto reads the images that there are."""

_PARAMETERS = {
    "/aws/service/debian/release/12/latest/amd64": "debian-12-amd64",
    "/aws/service/debian/release/12/latest/arm64": "debian-12-arm64",
    "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id": "ubuntu/",
}
_STANDARD = "L-1216C47A"
_QUOTAS = {
    _STANDARD: ("Standard (A, C, D, H, I, M, R, T, Z)", 32.0),
    "L-DB2E81BA": ("G and VT", 0.0),
    "L-417A185B": ("P", 0.0),
    "L-74FC7D96": ("F", 0.0),
    "L-1945791B": ("Inf", 0.0),
    "L-2C3B7624": ("Trn", 0.0),
    "L-7295265B": ("X", 0.0),
    "L-43DA4232": ("High Memory", 0.0),
    "L-6E869C2A": ("DL", 0.0),
    "L-F7808C92": ("HPC", 0.0),
}


def answer(asked: Call, faults: Collection[str]) -> Response | None:
    """What AWS says to this call, or nothing where that is moto's to say."""
    canned = _ANSWERS.get((asked.service, asked.action))
    value = canned(asked, faults) if canned else None
    return call.answer(value) if value else None


def login(image: str) -> str:
    """Who can log in to an instance of an image."""
    names = (one["name"] for one in _images() if one["ami_id"] == image)
    return "ubuntu" if next(names, "").startswith("ubuntu/") else "admin"


def _images() -> list[dict[str, Any]]:
    return list(json.loads(IMAGES.read_text(encoding="utf-8")))


def _parameter(asked: Call, _: Collection[str]) -> Mapping[str, Any] | None:
    name = asked.first("Name")
    prefix = _PARAMETERS.get(name)
    if not prefix:
        return None
    image = next(one["ami_id"] for one in _images() if one["name"].startswith(prefix))
    arn = f"arn:aws:ssm:{asked.region}::parameter{name}"
    kind = {"Type": "String", "DataType": "aws:ec2:image", "Version": 1}
    return {"Parameter": {"Name": name, "Value": image, "ARN": arn, **kind}}


def _quota(asked: Call, faults: Collection[str]) -> Mapping[str, Any] | None:
    code = asked.first("QuotaCode")
    if asked.first("ServiceCode") != "ec2" or code not in _QUOTAS:
        return None
    bucket, value = _QUOTAS[code]
    if code == _STANDARD and "quota" in faults:
        value = 0.0
    name = f"Running On-Demand {bucket} instances"
    facts = {"ServiceCode": "ec2", "QuotaCode": code, "QuotaName": name, "Unit": "None", "Adjustable": True}
    return {"Quota": {**facts, "Value": value}}


def _products(asked: Call, _: Collection[str]) -> Mapping[str, Any]:
    """From the table for when AWS cannot be asked: the figures are AWS's, as of a date."""
    table = tomllib.loads(resources.files("mlops_env.ec2").joinpath("prices.toml").read_text(encoding="utf-8"))
    wanted = {one["Field"]: one["Value"] for one in asked.parameters.get("Filters", [])}
    region = wanted.get("regionCode", "")
    found: Mapping[str, tuple[str, float | None]] = {}
    if wanted.get("group") == "VPCPublicIPv4Address" and region in table:
        hour = table["public_ipv4_hour"]
        found = {"PublicIPv4:InUseAddress": ("Hrs", hour), "PublicIPv4:IdleAddress": ("Hrs", hour)}
    elif wanted.get("volumeApiName") == "gp3":
        found = {"EBS:VolumeUsage.gp3": ("GB-Mo", table.get(region, {}).get("gp3_gb_month"))}
    elif kind := wanted.get("instanceType"):
        found = {f"BoxUsage:{kind}": ("Hrs", table.get(region, {}).get(kind))}
    # Whoever shows prices is to say whose copy of which date they are from.
    source = {"version": "sandbox", "publicationDate": f"{table['as_of']}T00:00:00Z"}
    products = [{**_product(usage, region, unit, usd), **source} for usage, (unit, usd) in found.items() if usd]
    return {"FormatVersion": "aws_v1", "PriceList": [json.dumps(product) for product in products]}


def _product(usage: str, region: str, unit: str, usd: float) -> dict[str, Any]:
    rate = {"unit": unit, "pricePerUnit": {"USD": f"{usd:.10f}"}}
    return {
        "product": {"attributes": {"usagetype": usage, "regionCode": region}},
        "terms": {"OnDemand": {"SKU.TERM": {"priceDimensions": {"SKU.TERM.RATE": rate}}}},
    }


_ANSWERS: Mapping[tuple[str, str], Callable[[Call, Collection[str]], Mapping[str, Any] | None]] = {
    ("ssm", "GetParameter"): _parameter,
    ("servicequotas", "GetServiceQuota"): _quota,
    ("pricing", "GetProducts"): _products,
}
