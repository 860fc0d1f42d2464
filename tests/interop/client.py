"""Lists and calls through a gateway with the Python SDK 2: client.py URL MODE TOOL ARGUMENTS. Prints one JSON object."""

import asyncio
import json
import sys

from mcp import Client


async def main(url: str, mode: str, tool: str, arguments: str) -> None:
    async with Client(url, mode=mode) as client:
        listed = await client.list_tools()
        result = await client.call_tool(tool, json.loads(arguments))
        print(
            json.dumps(
                {
                    "protocol": client.protocol_version,
                    "tools": [tool.name for tool in listed.tools],
                    "structured": result.structured_content,
                    "isError": result.is_error,
                }
            )
        )


asyncio.run(main(*sys.argv[1:]))
