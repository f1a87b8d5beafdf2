"""The two requests of WHIP and WHEP, with the standard library."""

from __future__ import annotations

import asyncio
import urllib.request
from urllib.parse import urljoin


def _request(method: str, url: str, token: str | None, body: bytes | None) -> tuple[int, str, bytes]:
    headers = {"Content-Type": "application/sdp"} if body is not None else {}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(url, body, headers, method=method)
    with urllib.request.urlopen(request, timeout=10) as response:
        return response.status, urljoin(url, response.headers.get("Location", "")), response.read()


async def post_sdp(url: str, token: str | None, offer: str) -> tuple[str, str]:
    """The answer, and the address of the resource."""
    status, resource, body = await asyncio.to_thread(_request, "POST", url, token, offer.encode())
    if status != 201:
        raise RuntimeError(f"POST {url}: {status}")
    return body.decode(), resource


async def delete(url: str, token: str | None) -> int:
    status, _, _ = await asyncio.to_thread(_request, "DELETE", url, token, None)
    return status
