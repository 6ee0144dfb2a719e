"""Every way in which AWS says no, told as cause and cure: by code, by error of boto3, and from an engine's text."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from mlops_env.ec2 import causes
from mlops_env.ec2.aws import Aws, named, need_extra
from mlops_env.errors import MlopsEnvError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlops_env.sandbox.control import Running

_FACTS = {"region": "eu-central-1", "zone": "eu-central-1b", "instance_type": "t3.large"}
_DENIED = (
    "You are not authorized to perform this operation. User: arn:aws:iam::123456789012:user/ann is not authorized to "
    "perform: ec2:RunInstances on resource: arn:aws:ec2:eu-central-1:123456789012:instance/* because no identity-based "
    "policy allows the ec2:RunInstances action. Encoded authorization failure message: zKcq3vT-lhA_9"
)


@pytest.mark.parametrize(
    ("aws_code", "code", "in_message", "in_hint"),
    [
        ("NoCredentialsError", "aws-no-credentials", "no AWS credentials", "aws configure"),
        ("ExpiredToken", "aws-expired", "expired", "aws sso login"),
        ("RequestExpired", "aws-expired", "clock", "aws sso login"),
        ("SSOError", "aws-expired", "expired", "aws sso login"),
        ("RequestTimeTooSkewed", "aws-clock", "time", "timedatectl"),
        ("AuthFailure", "aws-credentials-invalid", "AWS in eu-central-1 does not accept", "not enabled"),
        ("InvalidClientTokenId", "aws-credentials-invalid", "does not accept", "get-caller-identity"),
        ("ProfileNotFound", "aws-profile-missing", "said so", "list-profiles"),
        ("NoRegionError", "aws-region-missing", "no AWS region", "--region"),
        ("OptInRequired", "aws-region-disabled", "eu-central-1 is not enabled", "AWS Regions"),
        ("VcpuLimitExceeded", "aws-vcpu-quota", "t3.large does not fit", "Service Quotas"),
        ("InsufficientInstanceCapacity", "aws-no-capacity", "no t3.large free in eu-central-1b", "--instance-type"),
        ("RequestLimitExceeded", "aws-throttled", "no more requests", "repeat"),
        ("ThrottlingException", "aws-throttled", "no more requests", "repeat"),
        ("InvalidKeyPair.NotFound", "aws-key-pair", "key pair", "up"),
        ("InvalidKeyPair.Duplicate", "aws-key-pair", "exists already", "down"),
        ("InvalidAMIID.NotFound", "aws-ami", "image", "--image"),
        ("InvalidAMIID.Malformed", "aws-ami", "image", "--image"),
        ("Unsupported", "aws-type-not-here", "eu-central-1b", "--instance-type"),
        ("InvalidInstanceType", "aws-type-unknown", "t3.large", "t3.large"),
        ("VPCIdNotSpecified", "aws-no-default-vpc", "no default network in eu-central-1", "create-default-vpc"),
        ("MissingInput", "aws-no-default-vpc", "no default network", "create-default-vpc"),
        ("VpcLimitExceeded", "aws-quota", "quota", "Service Quotas"),
        ("InternalError", "aws-internal", "fault of its own", "repeat"),
        ("503", "aws-internal", "fault of its own", "repeat"),
        ("DependencyViolation", "aws-in-use", "still uses it", "by hand"),
        ("InvalidVpcID.NotFound", "aws-not-found", "not there", "repeat"),
        ("ParameterNotFound", "aws-not-found", "not there", "repeat"),
        ("IncorrectInstanceState", "aws-wrong-state", "state", "repeat"),
        ("OperationNotPermitted", "aws-protected", "protected", "protection"),
        ("Blocked", "aws-account-blocked", "blocked", "Support"),
        ("PendingVerification", "aws-account-blocked", "not activated", "Support"),
    ],
)
def test_each_code_has_a_cause_and_says_what_to_do(aws_code: str, code: str, in_message: str, in_hint: str) -> None:
    cause = causes.of(aws_code, "said so", **_FACTS)
    assert cause.code == code
    assert in_message in cause.message
    assert in_hint in cause.hint


def test_an_unknown_code_keeps_what_aws_said() -> None:
    cause = causes.of("SomethingNew", "the moon is full")
    assert cause.code == "aws-error"
    assert "SomethingNew" in cause.message
    assert "the moon is full" in cause.message
    assert cause.hint


def test_no_cause_shows_a_fact_that_nobody_knows() -> None:
    assert "{" not in "".join(
        f"{cause.message}{cause.hint}" for cause in (causes.of(name, "") for name in causes._MEANINGS)
    )


def test_a_refusal_names_the_permission_and_where_a_policy_with_it_is_to_be_had() -> None:
    cause = causes.of("UnauthorizedOperation", _DENIED)
    assert cause.code == "aws-not-allowed"
    assert "ec2:RunInstances" in cause.message
    assert "mlops-env iam-policy" in cause.hint
    assert "zKcq3vT" not in f"{cause.message}{cause.hint}"


def test_a_quota_that_is_used_up_tells_how_large_it_is() -> None:
    said = "You have requested more vCPU capacity than your current vCPU limit of 16 allows for the instance bucket"
    cause = causes.of("VcpuLimitExceeded", said, **_FACTS)
    assert cause.message == "t3.large does not fit into this account's quota of 16 vCPU in eu-central-1"


def test_the_profile_is_in_the_command_that_logs_in() -> None:
    assert "aws sso login --profile work" in causes.of("ExpiredToken", "", profile="work").hint


_OF_BOTO = (
    "error: An error occurred (InsufficientInstanceCapacity) when calling the RunInstances operation "
    "(reached max retries: 4): We currently do not have sufficient t3.large capacity"
)
_OF_THE_REAL_PROVIDER = (
    "creating EC2 Instance: operation error EC2: RunInstances, https response error StatusCode: 400, RequestID: 5f2a, "
    "api error VcpuLimitExceeded: You have requested more vCPU capacity than your current limit of 0"
)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (_OF_BOTO, "aws-no-capacity"),
        (_OF_THE_REAL_PROVIDER, "aws-vcpu-quota"),
        (
            f"An error occurred (UnauthorizedOperation) when calling the RunInstances operation: {_DENIED}",
            "aws-not-allowed",
        ),
        ("configuring provider: No valid credential sources found. Please see …", "aws-no-credentials"),
    ],
)
def test_the_cause_is_read_from_an_engines_text(text: str, code: str) -> None:
    cause = causes.read(text)
    assert cause
    assert cause.code == code


def test_a_text_that_tells_of_no_aws_error_has_no_cause() -> None:
    assert causes.read("error: no resource plugin 'pulumi-resource-aws' found") is None


@pytest.fixture
def _nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody's machine: no credentials, no configuration, and no cloud to ask for them."""
    for name, value in {
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)


def _who(aws: Aws) -> str:
    with named("asking who you are", profile=aws.profile):
        return str(aws.client("sts", patient=False).get_caller_identity()["Account"])


@pytest.mark.usefixtures("_nobody")
def test_no_credentials() -> None:
    with pytest.raises(MlopsEnvError, match=r"^asking who you are: there are no AWS credentials") as raised:
        _who(Aws("eu-central-1", "", {}))
    assert raised.value.code == "aws-no-credentials"


@pytest.mark.usefixtures("_nobody")
def test_no_such_profile() -> None:
    with pytest.raises(MlopsEnvError, match="nobody") as raised:
        _who(Aws("eu-central-1", "nobody", {}))
    assert raised.value.code == "aws-profile-missing"


@pytest.mark.usefixtures("_nobody")
def test_no_region() -> None:
    with pytest.raises(MlopsEnvError) as raised:
        Aws("", "", {}).client("ec2")
    assert raised.value.code == "aws-region-missing"


@pytest.mark.usefixtures("_nobody")
def test_the_users_configuration_names_the_region(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("[default]\nregion = eu-north-1\n[profile work]\nregion = eu-west-2\n")
    assert Aws("", "", {}).configured_region() == "eu-north-1"
    assert Aws("", "work", {}).configured_region() == "eu-west-2"


@pytest.mark.usefixtures("_nobody")
def test_a_login_that_has_expired(tmp_path: Path) -> None:
    (tmp_path / "config").write_text(
        "[profile work]\nsso_session = corp\nsso_account_id = 123456789012\nsso_role_name = dev\n"
        "[sso-session corp]\nsso_region = eu-central-1\nsso_start_url = https://corp.awsapps.com/start\n"
    )
    with pytest.raises(MlopsEnvError) as raised:
        _who(Aws("eu-central-1", "work", {}))
    assert raised.value.code == "aws-expired"
    assert "aws sso login --profile work" in raised.value.hint


@pytest.fixture
def _deaf() -> Iterator[str]:
    """An address where somebody listens and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def _at(endpoint: str) -> dict[str, str]:
    return {"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}


def test_an_aws_that_does_not_answer_is_a_matter_of_the_network(_deaf: str) -> None:  # noqa: PT019 - it is used
    with pytest.raises(MlopsEnvError) as raised:
        _who(Aws("eu-central-1", "", _at(_deaf)))
    assert raised.value.code == "aws-network"


def test_an_aws_that_cannot_be_reached_is_a_matter_of_the_network() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(MlopsEnvError) as raised:
        _who(Aws("eu-central-1", "", _at(f"http://127.0.0.1:{port}")))
    assert raised.value.code == "aws-network"


def test_the_sandbox_takes_nothing_of_the_users(sandbox: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the user's profile, nor a proxy, nor his keys, nor what he says of endpoints."""
    for name, value in {
        "AWS_PROFILE": "not-there",
        "AWS_CONFIG_FILE": "/not-there",
        "AWS_ACCESS_KEY_ID": "the-users",
        "AWS_USE_FIPS_ENDPOINT": "true",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
    }.items():
        monkeypatch.setenv(name, value)
    client = Aws("eu-central-1", "", sandbox.variables()).client("sts")
    sent: list[str] = []
    client.meta.events.register("before-send", lambda request, **_: sent.append(str(request.headers["Authorization"])))
    assert client.get_caller_identity()["Account"]
    assert "the-users" not in sent[0]


def test_clients_are_made_once(sandbox: Running) -> None:
    aws = Aws("eu-central-1", "", sandbox.variables())
    assert aws.client("ec2") is aws.client("ec2")
    assert aws.client("ec2") is not aws.client("ec2", region="eu-west-1")


@pytest.mark.parametrize(
    ("region", "home"),
    [("eu-central-1", "us-east-1"), ("cn-north-1", "cn-north-1"), ("us-gov-east-1", "us-gov-west-1")],
)
def test_the_home_region_is_of_the_same_partition(region: str, home: str) -> None:
    assert Aws(region, "", {}).home_region == home


def test_what_is_missing_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlops_env.ec2.aws._PACKAGES", ("boto3", "not_installed_at_all"))
    with pytest.raises(MlopsEnvError, match="needs not_installed_at_all") as raised:
        need_extra()
    assert raised.value.code == "extra-missing"
    assert "mlops-env[ec2]" in raised.value.hint
