// Serves one tool with the TypeScript SDK, in sessions and behind a bearer token: server_sessions.mjs FOLDER PORT SECONDS, where
// FOLDER is what `install` filled. Sessions are kept as in the SDK's own example: an unknown one is answered with 400. Tokens are
// those of server_sessions.py.

import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { join } from "node:path";

const [folder, port, seconds] = process.argv.slice(2);
const require = createRequire(join(folder, "package.json"));
const { McpServer } = require("@modelcontextprotocol/sdk/server/mcp.js");
const { StreamableHTTPServerTransport } = require("@modelcontextprotocol/sdk/server/streamableHttp.js");

const CHALLENGE = 'Bearer error="invalid_token", error_description="expired", scope="tools"';
const sessions = new Map();

function isAccepted(authorization = "") {
  const issued = /^Bearer token-(\d+)$/.exec(authorization)?.[1];
  return issued !== undefined && Date.now() - Number(issued) < Number(seconds) * 1000;
}

async function open() {
  const transport = new StreamableHTTPServerTransport({
    sessionIdGenerator: randomUUID,
    onsessioninitialized: (id) => sessions.set(id, transport),
  });
  const server = new McpServer({ name: "sessions", version: "1.0.0" });
  server.registerTool("echo", { description: "Answers." }, () => ({ content: [{ type: "text", text: "here" }] }));
  await server.connect(transport);
  return transport;
}

async function body(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return chunks.length === 0 ? undefined : JSON.parse(Buffer.concat(chunks).toString());
}

createServer(async (request, response) => {
  if (!isAccepted(request.headers.authorization)) {
    response.writeHead(401, { "www-authenticate": CHALLENGE }).end();
    return;
  }
  const message = await body(request);
  const known = sessions.get(request.headers["mcp-session-id"]);
  if (!known && message?.method !== "initialize") {
    const error = { code: -32000, message: "Bad Request: No valid session ID provided" };
    response.writeHead(400, { "content-type": "application/json" });
    response.end(JSON.stringify({ jsonrpc: "2.0", id: null, error }));
    return;
  }
  await (known ?? (await open())).handleRequest(request, response, message);
}).listen(Number(port), "127.0.0.1");
