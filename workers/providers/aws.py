"""What every service of AWS has in common: clients that send nothing twice, and what their errors mean."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ParamValidationError,
)
from botocore.parsers import ResponseParserError
from django.conf import settings

from workers.providers.contract import Account, NotYet, Refusal, Throttled, Unclear

TIMEOUT_SECONDS, SHORTEST_SECONDS = 8.0, 0.6
THROTTLED = re.compile(r"RequestLimitExceeded|Throttl|TooManyRequests|SlowDown|RequestThrottled")
NO_CAPACITY = re.compile(r"^Insufficient\w*Capacity$")  # a definite no, though EC2 sends it with status 500
MISSING = re.compile(r"\.NotFound$|^NoSuchEntity|NotAttached$|^InvalidAMIID\.Unavailable$")
# A profile that was made seconds ago is not known to EC2 yet, and it says so by a plain wrong parameter.
NOT_KNOWN_YET = re.compile(r"instance ?profile", re.IGNORECASE)
REASONS: tuple[tuple[str, re.Pattern[str], str], ...] = (
    (
        "BadCredentials",
        re.compile(
            r"^(AuthFailure|InvalidClientTokenId|SignatureDoesNotMatch|ExpiredToken|ExpiredTokenException|RequestExpired|"
            r"UnrecognizedClientException|InvalidAccessKeyId|InvalidSignatureException|MissingAuthenticationToken|"
            r"IncompleteSignature|OptInRequired|PendingVerification|Blocked)$"
        ),
        "AWS does not take these credentials. Give the account new ones, and see that they are of an active user",
    ),
    (
        "NotPermitted",
        re.compile(r"^(UnauthorizedOperation|AccessDenied|AccessDeniedException|UnauthorizedAccess)$"),
        "The credentials lack the permission {permission}. Add it to their policy",
    ),
    (
        "NoCapacity",
        re.compile(r"^(Insufficient.*Capacity.*|InsufficientFreeAddressesInSubnet|Unsupported|UnsupportedOperation)$"),
        "AWS has no such machine free there now. Try again later, or choose another machine type or region",
    ),
    (
        "QuotaExceeded",
        re.compile(r"LimitExceeded|QuotaExceeded|^MaxSpotInstanceCountExceeded$|^RulesPerSecurityGroup"),
        "A quota of this AWS account is used up. Raise it in AWS's Service Quotas console, or remove what nobody needs",
    ),
    (
        "NameTaken",
        re.compile(r"Duplicate|AlreadyExists"),
        "Something else has this name in the account. Remove it there, or make the cluster under another name",
    ),
    (
        "NetworkClash",
        re.compile(r"^(InvalidSubnet\.(Conflict|Range)|InvalidVpc\.?Range|.*CidrConflict|InvalidCidrBlock.*)$"),
        "The addresses clash with what is there. Choose another range for the cluster",
    ),
    (
        "InUse",
        re.compile(r"^(DependencyViolation|DeleteConflict|.*\.InUse|ResourceInUse.*)$"),
        "Something in the account still uses it. It goes when that is gone; look in AWS's console for what it is",
    ),
)


@lru_cache(maxsize=128)
def _client(service: str, region: str, key: str, secret: str, token: str | None, seconds: float) -> Any:
    config = Config(
        retries={"total_max_attempts": 1, "mode": "standard"},
        connect_timeout=min(3.0, seconds),
        read_timeout=seconds,
        user_agent_extra="windlass",
    )
    session = boto3.Session(
        aws_access_key_id=key, aws_secret_access_key=secret, aws_session_token=token, region_name=region
    )
    return session.client(service, config=config)


def client(account: Account, service: str) -> Any:
    """Made once a process for each account: making one takes longer than a call. AWS_ENDPOINT_URL is honoured."""
    given = account.credentials
    # Scaled as leases are, so that no call outlives the right to record its answer.
    seconds = max(SHORTEST_SECONDS, TIMEOUT_SECONDS * min(1.0, settings.WINDLASS_TIME_SCALE))
    return _client(
        service,
        account.region,
        given["access_key_id"],
        given["secret_access_key"],
        given.get("session_token") or None,
        seconds,
    )


@contextmanager
def translated(what: str) -> Iterator[None]:
    """What boto3 raises inside becomes what the contract knows. `what`: for a person, what was tried."""
    try:
        yield
    except ClientError as error:
        raise meaning(error, what) from error
    except (EndpointConnectionError, ConnectTimeoutError) as error:
        raise Throttled(f"AWS was not reached: {error}") from error
    except ParamValidationError as error:
        raise Refusal("BadRequest", f"{what} is not possible: {error}") from error
    except (BotoCoreError, ResponseParserError) as error:  # time-outs, and answers that were cut
        raise Unclear(f"AWS did not answer: {error}") from error


def meaning(error: ClientError, what: str) -> Exception:
    """Refusal, Throttled, NotYet or Unclear, with words for a person."""
    answer = error.response
    code = str(answer.get("Error", {}).get("Code", ""))
    said = str(answer.get("Error", {}).get("Message", "")) or code
    about = answer.get("ResponseMetadata", {})
    status = int(about.get("HTTPStatusCode", 0))
    if THROTTLED.search(code) or status == 429:
        after = about.get("HTTPHeaders", {}).get("retry-after", "")
        return Throttled(f"AWS asks for patience: {said}", float(after) if after.isdigit() else None)
    if status >= 500 and not NO_CAPACITY.search(code):
        return Unclear(f"AWS failed: {said} ({code or status})")
    if MISSING.search(code) or (code == "InvalidParameterValue" and NOT_KNOWN_YET.search(said)):
        return NotYet(f"{said} ({code})")
    for reason, pattern, words in REASONS:
        if pattern.search(code):
            permission = _permission(error, said) if reason == "NotPermitted" else ""
            advice = words.format(permission=permission)
            return Refusal(reason, f"{what} was refused. {advice}. AWS says: {_short(said)} ({code})", permission)
    return Refusal("BadRequest", f"{what} was refused. AWS says: {_short(said)} ({code})")


def _permission(error: ClientError, said: str) -> str:
    """The action that is missing: AWS's own word for it, else the call that was refused."""
    found = re.search(r"perform:?\s+([a-z0-9-]+:[A-Za-z]+)", said)
    service = "iam" if re.search(r"Role|InstanceProfile", error.operation_name) else "ec2"
    return found.group(1) if found else f"{service}:{error.operation_name}"


def is_missing(error: ClientError) -> bool:
    """What the call names is not there."""
    return bool(MISSING.search(str(error.response.get("Error", {}).get("Code", ""))))


def _short(said: str) -> str:
    """Without the encoded rest, which tells nobody anything."""
    return said.split(" Encoded authorization failure message")[0].strip().rstrip(".")[:500]
