"""Serves one tool with the Python SDK or FastMCP, in sessions and behind a bearer token: server_sessions.py KIND PORT SECONDS.

KIND is mcp (the FastMCP class of the SDK) or fastmcp. A token is "token-" and the milliseconds since 1970 at which it was
issued, and is accepted for SECONDS after that.
"""

import sys
import time

import uvicorn

CHALLENGE = b'Bearer error="invalid_token", error_description="expired", scope="tools"'


def make(kind):
    if kind == "mcp":
        from mcp.server.fastmcp import FastMCP

        server = FastMCP("sessions")
        return server, server.streamable_http_app
    from fastmcp import FastMCP

    server = FastMCP("sessions")
    return server, server.http_app


def guarded(app, seconds):
    async def guard(scope, receive, send):
        if scope["type"] == "http" and not is_accepted(dict(scope["headers"]).get(b"authorization", b""), seconds):
            headers = [(b"www-authenticate", CHALLENGE), (b"content-length", b"0")]
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
        else:
            await app(scope, receive, send)

    return guard


def is_accepted(authorization, seconds):
    issued = authorization.removeprefix(b"Bearer token-")
    return issued.isdigit() and time.time() - int(issued) / 1000 < seconds


kind, port, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
server, app = make(kind)


@server.tool(name="echo")
def echo(value: str) -> str:
    """Returns its argument."""
    return value


uvicorn.run(guarded(app(), seconds), host="127.0.0.1", port=port, log_level="warning")
