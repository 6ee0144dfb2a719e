"""What AWS's error codes mean to the user, and what he does next."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Cause:
    """Our stable code for it, what happened, and the cure."""

    code: str
    message: str
    hint: str


class _Meaning(NamedTuple):
    """A row of the table; `{said}` are AWS's own words, the other fields are facts that the caller may know."""

    code: str
    message: str
    hint: str


_LOG_IN = "log in again: `aws sso login{for_profile}`, or put fresh keys where the old ones came from; then repeat"
_KEYS = "`aws sts get-caller-identity{for_profile}` shows whom AWS sees; `aws configure{for_profile}` sets new keys"
_QUOTA = "stop or end what you do not need there, use another --region, or ask for more: console, Service Quotas"
_AGAIN = "wait a minute and repeat the same command: it goes on where this one stopped"
_POLICY = "have an administrator attach what `mlops-env iam-policy` prints, then repeat"

_NO_CREDENTIALS = _Meaning(
    "aws-no-credentials",
    "there are no AWS credentials",
    "`aws configure` or `aws sso login` makes some, --profile chooses others; --sandbox rehearses without an account",
)
_EXPIRED = _Meaning("aws-expired", "the AWS credentials have expired", _LOG_IN)
_INVALID = _Meaning("aws-credentials-invalid", "AWS does not accept the credentials: {said}", _KEYS)
_CLOCK = _Meaning(
    "aws-clock",
    "AWS does not accept the time of the request: {said}",
    "set this machine's clock; `timedatectl` shows whether it is synchronised",
)
_NOT_ALLOWED = _Meaning("aws-not-allowed", "these credentials are not allowed {action}", _POLICY)
_THROTTLED = _Meaning("aws-throttled", "AWS takes no more requests of this account for now", _AGAIN)
_INTERNAL = _Meaning("aws-internal", "AWS has a fault of its own: {said}", _AGAIN)
_UNREACHABLE = _Meaning(
    "aws-network",
    "AWS cannot be reached: {said}",
    "look at this machine's network, proxy (HTTPS_PROXY) and --region; nothing was changed by this request",
)
_VCPU = _Meaning(
    "aws-vcpu-quota",
    "{instance_type} does not fit into this account's quota of {limit}vCPU in {region}",
    "stop or end instances there, use a smaller --instance-type or another --region, or ask for more: console, "
    "Service Quotas, Amazon EC2, Running On-Demand instances",
)
_NO_CAPACITY = _Meaning(
    "aws-no-capacity",
    "AWS has no {instance_type} free in {zone}",
    "repeat in some minutes, or use another --instance-type or --region",
)
_NOT_HERE = _Meaning(
    "aws-type-not-here",
    "{instance_type} cannot be had in {zone}: {said}",
    "use another --instance-type or --region",
)
_NO_VPC = _Meaning(
    "aws-no-default-vpc",
    "this account has no default network in {region}",
    "repeat: `up` then makes a network of its own; or `aws ec2 create-default-vpc --region {region}`",
)
_DISABLED = _Meaning(
    "aws-region-disabled",
    "{region} is not enabled in this account",
    "use another --region, or enable it: console, Account, AWS Regions (takes minutes)",
)
_LIMIT = _Meaning("aws-quota", "a quota of this account is used up: {said}", _QUOTA)
_BLOCKED = _Meaning(
    "aws-account-blocked",
    "AWS has not activated this account, or has blocked it: {said}",
    "look into the mail of the account's owner and the console's billing pages; AWS Support lifts it",
)
_IN_USE = _Meaning(
    "aws-in-use",
    "something else still uses it: {said}",
    "end what you attached to it by hand, then repeat",
)
_GONE = _Meaning("aws-not-found", "it is not there, or not yet: {said}", _AGAIN)
_STATE = _Meaning("aws-wrong-state", "its state does not permit that now: {said}", _AGAIN)
_PROTECTED = _Meaning(
    "aws-protected",
    "somebody protected it: {said}",
    "take the protection away (console: Actions, Instance settings), then repeat",
)

# AWS's codes (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html) and botocore's classes.
_MEANINGS = {
    "NoCredentialsError": _NO_CREDENTIALS,
    "PartialCredentialsError": _NO_CREDENTIALS,
    "MissingAuthenticationToken": _NO_CREDENTIALS,
    "ProfileNotFound": _Meaning(
        "aws-profile-missing",
        "{said}",
        "`aws configure list-profiles` shows those that exist; choose one with --profile",
    ),
    "NoRegionError": _Meaning("aws-region-missing", "no AWS region is chosen", "choose one with --region"),
    "InvalidRegionError": _Meaning("aws-region-unknown", "{said}", "choose one with --region"),
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "SSOError": _EXPIRED,
    "TokenRetrievalError": _EXPIRED,
    "LoginError": _EXPIRED,
    "CredentialRetrievalError": _Meaning(
        "aws-no-credentials", "the AWS credentials cannot be read: {said}", "log in again, or choose another --profile"
    ),
    "RequestExpired": _Meaning(
        "aws-expired",
        "the AWS credentials have expired, or this machine's clock is wrong",
        _LOG_IN,
    ),
    "RequestTimeTooSkewed": _CLOCK,
    "AuthFailure": _INVALID._replace(
        message="AWS in {region} does not accept the credentials: {said}",
        hint=f"{_KEYS}; a --region that is not enabled in the account answers so too",
    ),
    "InvalidClientTokenId": _INVALID,
    "UnrecognizedClientException": _INVALID,
    "SignatureDoesNotMatch": _INVALID,
    "IncompleteSignature": _INVALID,
    "OptInRequired": _DISABLED,
    "UnauthorizedOperation": _NOT_ALLOWED,
    "AccessDenied": _NOT_ALLOWED,
    "AccessDeniedException": _NOT_ALLOWED,
    "VcpuLimitExceeded": _VCPU,
    "InstanceLimitExceeded": _VCPU,
    "InsufficientInstanceCapacity": _NO_CAPACITY,
    "InsufficientHostCapacity": _NO_CAPACITY,
    "RequestLimitExceeded": _THROTTLED,
    "Throttling": _THROTTLED,
    "ThrottlingException": _THROTTLED,
    "TooManyRequestsException": _THROTTLED,
    "EC2ThrottledException": _THROTTLED,
    "InvalidKeyPair.NotFound": _Meaning(
        "aws-key-pair", "the key pair of this environment is gone: {said}", "`mlops-env up` makes it again"
    ),
    "InvalidKeyPair.Duplicate": _Meaning(
        "aws-key-pair",
        "a key pair of that name exists already: {said}",
        "`mlops-env down` removes it if it is this environment's; else delete it in the console, EC2, Key pairs",
    ),
    "Unsupported": _NOT_HERE,
    "UnsupportedOperation": _NOT_HERE,
    "InvalidInstanceType": _Meaning(
        "aws-type-unknown",
        "AWS knows no instance type {instance_type} in {region}",
        "t3.large is the default; the console's EC2, Instance types has all of {region}",
    ),
    "VPCIdNotSpecified": _NO_VPC,
    "MissingInput": _NO_VPC,
    "DefaultVpcDoesNotExist": _NO_VPC,
    "DependencyViolation": _IN_USE,
    "VolumeInUse": _IN_USE,
    "InvalidNetworkInterface.InUse": _IN_USE,
    "InvalidPermission.Duplicate": _Meaning("aws-exists", "that rule exists already: {said}", _AGAIN),
    "IncorrectInstanceState": _STATE,
    "IncorrectState": _STATE,
    "OperationNotPermitted": _PROTECTED,
    "Blocked": _BLOCKED,
    "PendingVerification": _BLOCKED,
    "AccountProblem": _BLOCKED,
    "InternalError": _INTERNAL,
    "InternalFailure": _INTERNAL,
    "InternalServerError": _INTERNAL,
    "ServiceUnavailable": _INTERNAL,
    "ServiceUnavailableException": _INTERNAL,
    "Unavailable": _INTERNAL,
    "RequestTimeout": _INTERNAL,
    "ResponseParserError": _INTERNAL,
    "ConnectionError": _UNREACHABLE,
    "HTTPClientError": _UNREACHABLE,
}
_FAMILIES = (
    (re.compile(r"InvalidAMIID\..*"), _Meaning("aws-ami", "the image cannot be used: {said}", "use another --image")),
    (re.compile(r"Invalid\w+\.NotFound|\w*NotFound(Exception)?"), _GONE),
    (re.compile(r"\w+LimitExceeded(Exception)?"), _LIMIT),
    (re.compile(r"5\d\d"), _INTERNAL),
)
_UNKNOWN = _Meaning(
    "aws-error",
    "AWS says {aws_code}: {said}",
    "repeat the command; if it stays, that code leads to AWS's documentation of it",
)

_DEFAULTS = {
    "region": "this region",
    "zone": "this zone",
    "instance_type": "this instance type",
    "action": "to do that",
    "said": "no more is known",
    "limit": "",
    "for_profile": "",
}
_ENCODED = re.compile(r"\s*Encoded authorization failure message: \S+")
_LIMIT_OF = re.compile(r"vCPU limit of (?P<limit>\d+)")
_PERMISSION = re.compile(r"not authorized to perform:? (?P<action>[\w-]+:\w+)")
# As boto3 says it, and as Pulumi's real provider, which speaks Go.
_TOLD = (
    re.compile(r"An error occurred \((?P<code>[\w.]+)\) when calling the (?P<action>\w+) operation[^:]*: (?P<said>.*)"),
    re.compile(r"operation error [\w ]+: (?P<action>\w+), .*api error (?P<code>[\w.]+): (?P<said>.*)"),
)
_NO_CREDENTIALS_IN_GO = "No valid credential sources found"


def of(aws_code: str, message: str, **facts: str) -> Cause:
    """The cause behind an AWS code, or the name of a botocore error; an unknown one keeps AWS's words.

    Facts that make the message better: region, zone, instance_type, profile, action (of the API, such as RunInstances).
    """
    said = _ENCODED.sub("", message).strip()
    known = defaultdict(str, _DEFAULTS) | facts | {"aws_code": aws_code}
    if said:
        known["said"] = said
    if facts.get("profile"):
        known["for_profile"] = f" --profile {facts['profile']}"
    limit, permission = _LIMIT_OF.search(said), _PERMISSION.search(said)
    if limit:
        known["limit"] = f"{limit['limit']} "
    if permission or "action" in facts:
        known["action"] = permission["action"] if permission else facts["action"]
    meaning = _meaning(aws_code)
    return Cause(meaning.code, meaning.message.format_map(known), meaning.hint.format_map(known))


def read(text: str, **facts: str) -> Cause | None:
    """The cause that a diagnostic of an engine tells in its text; None if it tells of no AWS error."""
    for pattern in _TOLD:
        told = pattern.search(text)
        if told:
            return of(told["code"], told["said"], **{"action": told["action"]} | facts)
    if _NO_CREDENTIALS_IN_GO in text:
        return of("NoCredentialsError", text, **facts)
    return None


def is_known(name: str) -> bool:
    """Whether the table has exactly this code, or class of errors."""
    return name in _MEANINGS


def _meaning(aws_code: str) -> _Meaning:
    if aws_code in _MEANINGS:
        return _MEANINGS[aws_code]
    return next((meaning for pattern, meaning in _FAMILIES if pattern.fullmatch(aws_code)), _UNKNOWN)
