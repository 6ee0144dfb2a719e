from __future__ import annotations

from typing import TYPE_CHECKING

from mlops_env.commands import options, reporting

if TYPE_CHECKING:
    from mlops_env.events import Emit


def iam_policy(as_json: options.Json = False, debug: options.Debug = False) -> None:
    """Print the least IAM policy with which target ec2 works."""

    def body(emit: Emit) -> reporting.Outcome:
        import json  # noqa: PLC0415

        from mlops_env.ec2 import policy  # noqa: PLC0415
        from mlops_env.events import Event  # noqa: PLC0415

        document = policy.document()
        if not as_json:
            emit(Event("output", message=json.dumps(document, indent=2)))
        return reporting.Outcome("", {"policy": document})

    reporting.run("iam-policy", body, as_json=as_json, debug=debug)
