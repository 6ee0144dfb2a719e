"""The one place that knows boto3: clients, and its errors turned into ours."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import threading
from typing import TYPE_CHECKING, Any

from mlops_env.ec2 import causes
from mlops_env.errors import MlopsEnvError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import boto3
    from botocore.config import Config

_PACKAGES = ("boto3", "pulumi", "pulumi_aws")
_NOTHING_OF_THE_USERS = {
    "profile": None,
    "config_file": os.devnull,
    "credentials_file": os.devnull,
    "use_fips_endpoint": False,
    "use_dualstack_endpoint": False,
}


def need_extra() -> None:
    """Raise `extra-missing` unless all that target ec2 needs beside the rest of mlops-env is installed."""
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise MlopsEnvError(
            f"target ec2 needs {', '.join(missing)}, which mlops-env is installed without",
            code="extra-missing",
            hint="install the extra: `uv tool install 'mlops-env[ec2]'`, or `pip install 'mlops-env[ec2]'`",
        )


class Aws:
    """Clients of one region, made when first asked for; threads may share them.

    `variables` with AWS_ENDPOINT_URL are the sandbox's: its address and keys are taken, and nothing of the user's own
    configuration, environment or proxies is. Without it the user's own chain of credentials counts, or `profile`.
    """

    def __init__(self, region: str, profile: str, variables: Mapping[str, str]) -> None:
        # Here, and not in the threads that will want it at the same time, each with half of the other's imports.
        import boto3  # noqa: F401, PLC0415 - 0.1 s, for who needs AWS

        self.region = region
        self.profile = profile
        self._variables = variables
        self._lock = threading.Lock()  # boto3 may make one client at a time only
        self._session: boto3.Session | None = None
        self._clients: dict[tuple[str, str, bool], Any] = {}

    def configured_region(self) -> str:
        """The region that the user's configuration names for the profile; empty if it names none."""
        with self._lock, named("reading the AWS configuration", profile=self.profile):
            return self._shared_session().region_name or ""

    @property
    def home_region(self) -> str:
        """A region of the same partition that no account can disable: there credentials and regions are asked about."""
        homes = {"cn": "cn-north-1", "us-gov": "us-gov-west-1", "eusc": "eusc-de-east-1"}
        return next((home for prefix, home in homes.items() if self.region.startswith(f"{prefix}-")), "us-east-1")

    def client(self, service: str, *, region: str = "", patient: bool = True) -> Any:
        """A client; one that is not patient gives up after one try of a few seconds."""
        key = (service, region or self.region, patient)
        with self._lock, named(f"connecting to {service} in {key[1]}", region=key[1], profile=self.profile):
            if key not in self._clients:
                self._clients[key] = self._made(*key)
            return self._clients[key]

    def _made(self, service: str, region: str, patient: bool) -> Any:
        return self._shared_session().client(
            service,
            region_name=region or None,
            endpoint_url=self._endpoint or None,
            config=self._config(patient),
        )

    def _shared_session(self) -> boto3.Session:
        import boto3  # noqa: PLC0415 - 0.1 s, for who needs AWS

        if self._session is None:
            self._session = (
                self._sandbox_session() if self._endpoint else boto3.Session(profile_name=self.profile or None)
            )
        return self._session

    @property
    def _endpoint(self) -> str:
        return self._variables.get("AWS_ENDPOINT_URL", "")

    def _config(self, patient: bool) -> Config:
        from botocore.config import Config  # noqa: PLC0415 - as above

        return Config(
            connect_timeout=5 if patient else 2,
            read_timeout=20 if patient else 4,
            retries={"mode": "standard", "total_max_attempts": 4 if patient else 1},
            proxies={} if self._endpoint else None,
            user_agent_extra="mlops-env",
        )

    def _sandbox_session(self) -> boto3.Session:
        import boto3  # noqa: PLC0415 - as above
        import botocore.session  # noqa: PLC0415 - as above

        core = botocore.session.Session()
        settings = core.get_component("config_store")  # the session's own way lets AWS_PROFILE win over no profile
        for variable, value in _NOTHING_OF_THE_USERS.items():
            settings.set_config_variable(variable, value)
        return boto3.Session(
            aws_access_key_id=self._variables["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self._variables["AWS_SECRET_ACCESS_KEY"],
            aws_session_token=self._variables.get("AWS_SESSION_TOKEN"),
            botocore_session=core,
        )


@contextlib.contextmanager
def named(doing: str, **facts: str) -> Iterator[None]:
    """Errors of boto3 in the body become `MlopsEnvError`s of causes.py, their messages beginning with `doing`."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - as above
    from botocore.parsers import ResponseParserError  # noqa: PLC0415 - as above

    try:
        yield
    except ClientError as error:
        told = error.response.get("Error", {})
        cause = causes.of(told.get("Code", ""), told.get("Message", ""), **{"action": error.operation_name} | facts)
        raise _error(doing, cause) from error
    except (BotoCoreError, ResponseParserError) as error:
        names = [kind.__name__ for kind in type(error).__mro__]
        name = next((name for name in names if causes.is_known(name)), names[0])
        raise _error(doing, causes.of(name, str(error), **facts)) from error


def _error(doing: str, cause: causes.Cause) -> MlopsEnvError:
    return MlopsEnvError(f"{doing}: {cause.message}", code=cause.code, hint=cause.hint)
