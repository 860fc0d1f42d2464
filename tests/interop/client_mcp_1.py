"""Lists and calls through a gateway with the Python SDK 1: client_mcp_1.py URL TOOL ARGUMENTS. Prints one JSON object."""

import asyncio
import json
import sys

from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client


async def main(url: str, tool: str, arguments: str) -> None:
    async with streamable_http_client(url) as (read, write, *_), ClientSession(read, write) as session:
        started = await session.initialize()
        listed = await session.list_tools()
        result = await session.call_tool(tool, json.loads(arguments))
        print(
            json.dumps(
                {
                    "protocol": started.protocolVersion,
                    "tools": [tool.name for tool in listed.tools],
                    "structured": result.structuredContent,
                    "isError": result.isError,
                }
            )
        )


asyncio.run(main(*sys.argv[1:]))
