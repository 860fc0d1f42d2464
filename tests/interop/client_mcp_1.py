"""Obeys an order with the Python SDK 1: client_mcp_1.py ORDER. Prints what it saw, as one JSON object.

Orders and what is seen are those of client.py; there is but one mode.
"""

import asyncio
import json
import sys
import time

from mcp import ClientSession, McpError, StdioServerParameters
from mcp.client.sse import sse_client
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import METHOD_NOT_FOUND, PaginatedRequestParams


def transport(server):
    if "command" in server:
        parameters = StdioServerParameters(
            command=server["command"], args=server.get("args", []), env=server.get("env")
        )
        return stdio_client(parameters)
    return (sse_client if server.get("transport") == "sse" else streamable_http_client)(server["url"])


def plain(model):
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


async def pages(fetch, member):
    """Everything that a list has. A server may lack one list of a capability."""
    found, cursor = [], None
    while True:
        try:
            page = await fetch(params=PaginatedRequestParams(cursor=cursor))
        except McpError as error:
            if error.error.code == METHOD_NOT_FOUND:
                return found
            raise
        found += [plain(one) for one in getattr(page, member)]
        if page.nextCursor is None:
            return found
        cursor = page.nextCursor


async def outcome(request):
    try:
        return plain(await request)
    except McpError as error:
        return {"error": {"code": error.error.code, "message": error.error.message}}


async def main(order):
    async with transport(order["server"]) as (read, write, *_), ClientSession(read, write) as session:
        started = await session.initialize()
        saw = {"protocol": started.protocolVersion}
        deadline = time.monotonic() + 30
        while True:
            saw["tools"] = await pages(session.list_tools, "tools")
            if len(saw["tools"]) >= order.get("tools", 0) or time.monotonic() > deadline:
                break
            await asyncio.sleep(0.1)
        capabilities = started.capabilities
        if capabilities.prompts is not None:
            saw["prompts"] = await pages(session.list_prompts, "prompts")
        if capabilities.resources is not None:
            saw["resources"] = await pages(session.list_resources, "resources")
            saw["resourceTemplates"] = await pages(session.list_resource_templates, "resourceTemplates")
        calls, prompts = order.get("calls", []), order.get("prompts", [])
        saw["called"] = [await outcome(session.call_tool(one["name"], one["arguments"])) for one in calls]
        saw["prompted"] = [await outcome(session.get_prompt(one["name"], one["arguments"])) for one in prompts]
        saw["read"] = [await outcome(session.read_resource(uri)) for uri in order.get("resources", [])]
    print(json.dumps(saw))


asyncio.run(main(json.loads(sys.argv[1])))
