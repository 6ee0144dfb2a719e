"""What everything of an environment bears on AWS, so that it is found again without any record."""

from __future__ import annotations

IDENTITY = "mlops-env:id"
ENVIRONMENT = "mlops-env:environment"
OWNER = "mlops-env:owner"


def of(environment: str, identity: str, owner: str) -> dict[str, str]:
    """The tags of one environment; of two with the same name, made on two machines, only the identity differs."""
    return {
        IDENTITY: identity,
        ENVIRONMENT: environment,
        OWNER: owner,
        "Name": physical_name(environment, identity),
    }


def physical_name(environment: str, identity: str) -> str:
    """What key pair and security group are called, since AWS knows those by name."""
    return f"mlops-env-{environment}-{identity[:8]}"
