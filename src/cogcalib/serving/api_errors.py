"""Errors as OpenAI's interface words them: a status and a JSON object, never a trace."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

INVALID = "invalid_request_error"


class ApiError(Exception):
    """What a client is told.

    Args:
        status: Of HTTP.
        message: For people.
        kind: OpenAI's ``type``, such as ``invalid_request_error``.
        code: OpenAI's ``code``; None for none.
        param: Field of the request that is at fault; None for none.
        headers: Sent beside it.
    """

    def __init__(
        self,
        status: int,
        message: str,
        kind: str = INVALID,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.kind = status, message, kind
        self.code, self.param, self.headers = code, param, dict(headers or {})

    def body(self) -> bytes:
        """The JSON object that OpenAI's clients read."""
        return error_body(self.message, self.kind, self.code, self.param)


def error_body(
    message: str, kind: str = INVALID, code: str | None = None, param: str | None = None
) -> bytes:
    """``{"error": {"message", "type", "param", "code"}}``."""
    error: dict[str, Any] = {"message": message, "type": kind, "param": param, "code": code}
    return json.dumps({"error": error}).encode()


def refused(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """A request that would fail however often it is sent."""
    return ApiError(400, message, param=param, code=code)


def busy(message: str) -> ApiError:
    """Too much at once; the client may come back in a second."""
    return ApiError(503, message, "server_error", "overloaded", headers={"Retry-After": "1"})


def too_late(seconds: float) -> ApiError:
    """A question that was not answered in time."""
    return ApiError(504, f"not answered within {seconds:g} s", "server_error", "timeout")


def failed(message: str, status: int = 500) -> ApiError:
    """Something on this side of the connection."""
    return ApiError(status, message, "server_error")
