// Obeys an order with the TypeScript SDK 2: client_ts.mjs FOLDER ORDER, where FOLDER is what `install` filled. Prints
// what it saw, as one JSON object. Orders and what is seen are those of client.py.

import { createRequire } from "node:module";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const [folder, text] = process.argv.slice(2);
const require = createRequire(join(folder, "package.json"));
const { Client, SSEClientTransport, StreamableHTTPClientTransport } = require("@modelcontextprotocol/client");
const { StdioClientTransport } = require("@modelcontextprotocol/client/stdio");

const METHOD_NOT_FOUND = -32601;

const order = JSON.parse(text);
const { server, mode = "auto" } = order;

function transport() {
  if (server.command) return new StdioClientTransport({ ...server, stderr: "inherit" });
  const Transport = server.transport === "sse" ? SSEClientTransport : StreamableHTTPClientTransport;
  return new Transport(new URL(server.url));
}

async function outcome(request) {
  try {
    return await request;
  } catch (error) {
    if (typeof error.code !== "number") throw error;
    return { error: { code: error.code, message: error.message } };
  }
}

// A server may lack one list of a capability.
async function all(member, list) {
  try {
    return (await list())[member];
  } catch (error) {
    if (error.code === METHOD_NOT_FOUND) return [];
    throw error;
  }
}

async function each(list, ask) {
  const outcomes = [];
  for (const one of list ?? []) outcomes.push(await outcome(ask(one)));
  return outcomes;
}

const negotiation = { mode: mode === "modern" ? { pin: "2026-07-28" } : mode };
const client = new Client({ name: "cortex-mcp-interop", version: "1.0.0" }, { versionNegotiation: negotiation });
await client.connect(transport());
const saw = { protocol: client.getNegotiatedProtocolVersion() };
// Each list is walked to its last page, and never taken from the client's cache.
const anew = { cacheMode: "refresh" };
const deadline = Date.now() + 30_000;
for (;;) {
  saw.tools = await all("tools", () => client.listTools(undefined, anew));
  if (saw.tools.length >= (order.tools ?? 0) || Date.now() > deadline) break;
  await sleep(100);
}
const capabilities = client.getServerCapabilities() ?? {};
if (capabilities.prompts) saw.prompts = await all("prompts", () => client.listPrompts(undefined, anew));
if (capabilities.resources) {
  saw.resources = await all("resources", () => client.listResources(undefined, anew));
  saw.resourceTemplates = await all("resourceTemplates", () => client.listResourceTemplates(undefined, anew));
}
saw.called = await each(order.calls, (one) => client.callTool({ name: one.name, arguments: one.arguments }));
saw.prompted = await each(order.prompts, (one) => client.getPrompt({ name: one.name, arguments: one.arguments }));
saw.read = await each(order.resources, (uri) => client.readResource({ uri }));
await client.close();
console.log(JSON.stringify(saw));
