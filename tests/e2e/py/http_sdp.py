"""The requests of WHIP and WHEP, with the standard library."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from dataclasses import dataclass
from urllib.parse import urljoin


@dataclass
class Reply:
    status: int
    resource: str
    tag: str | None
    body: str


async def request(method: str, url: str, token: str | None, body: str | None, *expected: int) -> Reply:
    """Sends it, as SDP where it has a body. Another status than those expected is an error."""
    headers = {"Content-Type": "application/sdp"} if body is not None else {}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    sent = urllib.request.Request(url, None if body is None else body.encode(), headers, method=method)

    def ask() -> Reply:
        try:
            response = urllib.request.urlopen(sent, timeout=10)
        except urllib.error.HTTPError as refused:
            response = refused
        with response:
            resource = urljoin(url, response.headers.get("Location", ""))
            return Reply(response.status, resource, response.headers.get("ETag"), response.read().decode())

    reply = await asyncio.to_thread(ask)
    if reply.status not in expected:
        raise RuntimeError(f"{method} {url}: {reply.status} {reply.body}")
    return reply


async def post_sdp(url: str, token: str | None, offer: str) -> tuple[str, str]:
    """The answer, and the address of the resource."""
    reply = await request("POST", url, token, offer, 201)
    return reply.body, reply.resource


async def delete(url: str, token: str | None) -> int:
    return (await request("DELETE", url, token, None, 200, 204)).status
