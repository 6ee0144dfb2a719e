"""The provider's way to AWS."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Mapping


class Clients:
    """EC2 clients, one a region, for the endpoint and the credentials that `variables` name."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self.region = "us-east-1"
        self._variables = variables
        self._made: dict[str, Any] = {}
        self._one_at_a_time = threading.Lock()

    def ec2(self) -> Any:
        with self._one_at_a_time:
            if self.region not in self._made:
                self._made[self.region] = _client(self.region, self._variables)
            return self._made[self.region]


def _client(region: str, variables: Mapping[str, str]) -> Any:
    # Nothing of the user's own AWS settings: no profile, no files.
    nothing: dict[str, tuple[None, None, str | None, None]] = {"profile": (None, None, None, None)}
    nothing |= dict.fromkeys(("config_file", "credentials_file"), (None, None, os.devnull, None))
    client = botocore.session.Session(session_vars=nothing).create_client(
        "ec2",
        region_name=region,
        endpoint_url=variables["AWS_ENDPOINT_URL"],
        aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
        aws_session_token=variables.get("AWS_SESSION_TOKEN"),
        config=Config(retries={"mode": "standard", "max_attempts": 3}),
    )
    client.meta.events.register_first("needs-retry.ec2.RunInstances", _give_up_without_capacity)
    return client


def _give_up_without_capacity(response: Any, operation: Any, **_: object) -> None:
    """AWS sends the lack of capacity as HTTP 500, which would be retried: another zone helps, time does not."""
    parsed = response[1] if response else {}
    if parsed.get("Error", {}).get("Code") == "InsufficientInstanceCapacity":
        raise ClientError(parsed, operation.name)
