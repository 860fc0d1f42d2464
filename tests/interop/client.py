"""Obeys an order with the Python SDK 2: client.py ORDER. Prints what it saw, as one JSON object.

An order is what every client of these tests takes (see tests/interop_matrix/clients.rs):

    {"server": {"url": "...", "transport": "http" or "sse"} or {"command": "...", "args": [...], "env": {...}},
     "mode": "legacy", "auto" or "modern",
     "tools": how many tools to wait for, where they come late,
     "calls": [{"name": "...", "arguments": {...}}], "prompts": [the same], "resources": ["uri", ...]}

What it saw: the protocol's version, all pages of what the server says it has ("tools", "prompts", "resources",
"resourceTemplates"), and of each call, prompt and resource the result or its error ("called", "prompted", "read").
"""

import asyncio
import json
import sys
import time

from mcp import Client, MCPError, StdioServerParameters
from mcp.client.sse import sse_client

MODES = {"modern": "2026-07-28"}
METHOD_NOT_FOUND = -32601


def transport(server):
    if "command" in server:
        return StdioServerParameters(command=server["command"], args=server.get("args", []), env=server.get("env"))
    return sse_client(server["url"]) if server.get("transport") == "sse" else server["url"]


def plain(model):
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


async def pages(fetch, member):
    """Everything that a list has, and nothing from the client's cache. A server may lack one list of a capability."""
    found, cursor = [], None
    while True:
        try:
            page = await fetch(cursor=cursor, cache_mode="refresh")
        except MCPError as error:
            if error.code == METHOD_NOT_FOUND:
                return found
            raise
        found += [plain(one) for one in getattr(page, member)]
        if page.next_cursor is None:
            return found
        cursor = page.next_cursor


async def outcome(request):
    try:
        return plain(await request)
    except MCPError as error:
        return {"error": {"code": error.code, "message": error.message}}


async def main(order):
    mode = order.get("mode", "auto")
    async with Client(transport(order["server"]), mode=MODES.get(mode, mode)) as client:
        saw = {"protocol": client.protocol_version}
        deadline = time.monotonic() + 30
        while True:
            saw["tools"] = await pages(client.list_tools, "tools")
            if len(saw["tools"]) >= order.get("tools", 0) or time.monotonic() > deadline:
                break
            await asyncio.sleep(0.1)
        # With the version given, nobody asks the server what it can.
        asked, capabilities = mode not in MODES, client.server_capabilities
        if not asked or capabilities.prompts is not None:
            saw["prompts"] = await pages(client.list_prompts, "prompts")
        if not asked or capabilities.resources is not None:
            saw["resources"] = await pages(client.list_resources, "resources")
            templates = pages(client.list_resource_templates, "resource_templates")
            saw["resourceTemplates"] = await templates
        calls, prompts = order.get("calls", []), order.get("prompts", [])
        saw["called"] = [await outcome(client.call_tool(one["name"], one["arguments"])) for one in calls]
        saw["prompted"] = [await outcome(client.get_prompt(one["name"], one["arguments"])) for one in prompts]
        saw["read"] = [await outcome(client.read_resource(uri)) for uri in order.get("resources", [])]
    print(json.dumps(saw))


asyncio.run(main(json.loads(sys.argv[1])))
