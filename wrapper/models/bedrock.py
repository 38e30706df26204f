"""A Bedrock model whose client never retries, from credentials found without waiting.

boto3 looks for credentials in many places and ends at the instance metadata service of EC2, which on any other machine
means waiting for an address that nobody answers. That last step is left out unless the machine looks like an EC2
instance (its firmware says so) or the environment asks for it, by ``AWS_EC2_METADATA_SERVICE_ENDPOINT`` or by setting
``AWS_EC2_METADATA_DISABLED`` to ``false``. Containers on ECS and EKS have their own steps, which are kept.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blackboard.errors import ModelUnavailable
from wrapper.models.failures import diagnose

if TYPE_CHECKING:
    from strands.models import BedrockModel

CREDENTIALS_REMEDY = (
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE or AWS_BEARER_TOKEN_BEDROCK, or run `aws configure`."
)
CONFIGURATION_REMEDY = "Check AWS_REGION, AWS_PROFILE and AWS_ENDPOINT_URL_BEDROCK_RUNTIME."
_VENDOR = Path("/sys/class/dmi/id/sys_vendor")


def metadata_service_expected(environment: Mapping[str, str], vendor: Path = _VENDOR) -> bool:
    """True when the EC2 instance metadata service may hold credentials for this process."""
    disabled = environment.get("AWS_EC2_METADATA_DISABLED", "").lower()
    if disabled:
        return disabled == "false"
    if environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT"):
        return True
    try:
        return "amazon" in vendor.read_text(encoding="ascii", errors="ignore").lower()
    except OSError:
        return False


def bedrock_model(
    model_id: str | None,
    *,
    region_name: str | None = None,
    endpoint_url: str | None = None,
    api_key: str | None = None,
    read_timeout_seconds: float = 120.0,
    **config: Any,
) -> BedrockModel:
    """A ``strands.models.BedrockModel`` that makes one HTTP request per call.

    Args:
        model_id: Bedrock model or inference profile; None for the default of Strands.
        region_name: AWS region; default: AWS_REGION, the profile's region, or us-west-2.
        endpoint_url: address of the runtime; default: AWS_ENDPOINT_URL_BEDROCK_RUNTIME or the region's.
        api_key: Bedrock API key; default: AWS_BEARER_TOKEN_BEDROCK, or request signing with AWS credentials.
        read_timeout_seconds: how long the connection may be silent. A call that was abandoned during such a silence
            occupies a thread until it ends.
        config: configuration of the model (``max_tokens``, ``temperature``, ``guardrail_id``, …).

    Raises:
        ModelUnavailable: no credentials were found, or the AWS configuration is unusable.
    """
    boto3: Any = import_module("boto3")
    botocore_session: Any = import_module("botocore.session")
    botocore_config: Any = import_module("botocore.config")
    botocore_errors: Any = import_module("botocore.exceptions")
    from strands.models import BedrockModel

    region = region_name or os.environ.get("AWS_REGION")
    # The standard retry mode of botocore sends a request again on its own. Counting total attempts is the only setting
    # that means "once": max_attempts=1 allows two requests.
    client_config = botocore_config.Config(
        retries={"total_max_attempts": 1, "mode": "standard"},
        connect_timeout=10,
        read_timeout=read_timeout_seconds,
        max_pool_connections=50,
    )
    try:
        core: Any = botocore_session.get_session()
        if not metadata_service_expected(os.environ):
            core.get_component("credential_provider").remove("iam-role")
        session: Any = boto3.Session(botocore_session=core, region_name=region)
        if not api_key and not os.environ.get("AWS_BEARER_TOKEN_BEDROCK") and session.get_credentials() is None:
            raise ModelUnavailable(f"bedrock: no AWS credentials were found. {CREDENTIALS_REMEDY}")
        if model_id is not None:
            config["model_id"] = model_id
        return BedrockModel(
            boto_session=session,
            boto_client_config=client_config,
            endpoint_url=endpoint_url,
            api_key=api_key,
            **config,
        )
    except (botocore_errors.BotoCoreError, ValueError) as error:
        # botocore raises a bare ValueError for an endpoint address it cannot read.
        said = " ".join(str(error).split()).rstrip(".")
        verdict = diagnose(error)
        remedy = verdict.remedy if verdict.known else CONFIGURATION_REMEDY
        raise ModelUnavailable(f"bedrock: {said}. {remedy}") from error
