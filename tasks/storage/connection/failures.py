"""What botocore says, in our words: what happened, at which store, what to do. The one place that maps its errors."""

from __future__ import annotations

from typing import Any

from tasks.errors import ConflictError, DeniedError, ForbiddenError, NotFoundError, RoundtripError, UnreachableError

DENIED = {"AccessDenied", "403", "Forbidden", "AllAccessDisabled"}
_BAD_CREDENTIALS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "RequestExpired"}
_ABSENT = {"404", "NoSuchKey", "NotFound", "NoSuchUpload", "416", "InvalidRange"}  # the last two: no such bytes of it
_TAKEN = {"412", "PreconditionFailed"}
_WRONG_REGION = {"AuthorizationHeaderMalformed", "PermanentRedirect", "301", "IllegalLocationConstraintException"}
_SKEWED = {"RequestTimeTooSkewed", "RequestInTheFuture"}


class Translate:
    """Context manager that turns botocore's errors about one key into ours.

    Args:
        url: `s3://bucket/prefix` of the store.
        endpoint: Of the server; None means AWS itself.
        what: The key, without the store's prefix.
    """

    def __init__(self, url: str, endpoint: str | None, what: str) -> None:
        self._url, self._at, self._what = url, endpoint or "AWS", what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        from botocore import exceptions as boto  # 0.2 s
        from botocore.parsers import ResponseParserError

        if isinstance(error, boto.ClientError):
            raise _refusal(error, self._url, self._at, self._what) from error
        if isinstance(error, ResponseParserError):
            raise DeniedError(f"{self._at} is not an S3 server: it does not answer in S3's XML. {CHECK_ADDRESS}") from error
        if isinstance(error, boto.BotoCoreError):
            raise _silence(error, self._url, self._at) from error
        if type(error) is ValueError:  # botocore's, of a date or a number in an answer that was damaged on the way
            raise UnreachableError(
                f"The store {self._url} at {self._at} gave an answer that can't be read: {error}"
            ) from error


CHECK_ADDRESS = "Check AWS_ENDPOINT_URL_S3: http or https, the host, the port."


def _refusal(error: Any, url: str, at: str, what: str) -> RoundtripError:
    """The server answered, with an error."""
    said = error.response.get("Error", {})
    code, operation = str(said.get("Code", "")), error.operation_name
    result: RoundtripError
    if code == "NoSuchBucket":
        result = NotFoundError(f"There is no bucket {url.split('/')[2]!r} at {at}. Create it first.")
    elif code in _ABSENT:
        result = NotFoundError(f"There is no {url}/{what}.")
    elif code in _TAKEN:
        result = ConflictError(f"{url}/{what} was written by somebody else first.")
    elif code in _BAD_CREDENTIALS:
        result = DeniedError(f"The store {url} at {at} refuses the credentials ({code}). Check AWS_PROFILE or the keys.")
    elif code in DENIED:
        # Who may not list the whole bucket is told the same about keys that are not there.
        or_absent = " Or there is no such key." if operation in {"GetObject", "HeadObject"} else ""
        result = ForbiddenError(f"The store {url} denies {operation} on {what!r} to these credentials.{or_absent}")
    elif code in _WRONG_REGION:
        headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        region = said.get("Region") or headers.get("x-amz-bucket-region", "another region")
        result = DeniedError(f"The store {url} is in {region}. Set AWS_DEFAULT_REGION.")
    elif code in _SKEWED:
        result = DeniedError(f"The clocks of this machine and of {at} are more than 15 minutes apart. Set this one right.")
    else:
        result = UnreachableError(f"The store {url} failed at {operation} on {what!r}: {code} {said.get('Message') or code}")
    return result


def _silence(error: Exception, url: str, at: str) -> RoundtripError:
    """No answer: why, as far as the connection tells, and what to check."""
    from botocore import exceptions as boto

    text = str(error).rstrip(".")
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError | boto.CredentialRetrievalError):
        advice = "Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        return DeniedError(f"No AWS credentials for {url}: {text}. {advice}")
    if isinstance(error, boto.SSOError | boto.TokenRetrievalError):
        return DeniedError(f"The single sign-on for {url} is over: {text}. Run `aws sso login`.")
    reason = _reason(error)
    if isinstance(error, boto.SSLError):
        why = f"{reason}. If it speaks plain HTTP, write http:// in AWS_ENDPOINT_URL_S3."
        if "CERTIFICATE_VERIFY_FAILED" in text:
            why = f"{reason}. Set AWS_CA_BUNDLE to the certificate of the authority that signed the server's."
    elif isinstance(error, boto.ReadTimeoutError):
        why = f"it takes the connection and says nothing. {CHECK_ADDRESS}"
    elif isinstance(error, boto.ConnectTimeoutError):
        why = f"nothing comes back from there. {CHECK_ADDRESS} Or a firewall drops it."
    elif isinstance(error, boto.ProxyConnectionError):
        why = f"the proxy can't be reached ({reason}). Check HTTPS_PROXY, HTTP_PROXY and NO_PROXY."
    elif isinstance(error, boto.ConnectionClosedError):
        why = "it hangs up. If it speaks TLS, write https:// in AWS_ENDPOINT_URL_S3."
    else:
        why = f"{reason}. Is it up? {CHECK_ADDRESS}"
    return UnreachableError(f"The store {url} at {at} does not answer: {why}")


def _reason(error: Exception) -> str:
    """The innermost of the causes that botocore and urllib3 wrap into one another, without their wrapping."""
    inner: Any = getattr(error, "kwargs", {}).get("error") or error
    while isinstance(getattr(inner, "reason", None), BaseException):
        inner = inner.reason
    text = str(inner)
    if isinstance(inner, OSError) and inner.strerror:
        text = inner.strerror
    return text.rpartition("] ")[2].partition(" (_ssl.c")[0].rstrip(".)\"'")
