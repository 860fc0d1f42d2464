"""Serves tools with FastMCP on a free port of the loopback address: server_fastmcp.py TRANSPORT TOOLS.

TRANSPORT is http or sse. TOOLS are served in pages of seven, fresh for a minute; each multiplies by its number. The
port is the only line of stdout, as {"port": N}.
"""

import asyncio
import json
import socket
import sys

import uvicorn
from fastmcp import FastMCP


def multiplier(number):
    def times(value: int) -> int:
        return value * number

    return times


async def main(transport, tools):
    server = FastMCP("multipliers", cache_ttl=60, cache_scope="public", list_page_size=7)
    for number in range(1, int(tools) + 1):
        server.tool(multiplier(number), name=f"times_{number}", description=f"Multiplies by {number}.")

    @server.prompt
    def ask(value: str) -> str:
        return f"How much is {value} times two?"

    @server.resource(f"multipliers://largest-of-{tools}")
    def largest() -> str:
        return tools

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    config = uvicorn.Config(server.http_app(transport=transport), log_level="warning", timeout_graceful_shutdown=1)
    await uvicorn.Server(config).serve(sockets=[listener])


asyncio.run(main(*sys.argv[1:]))
