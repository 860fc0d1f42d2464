// Connects with the TypeScript SDK and an OAuth provider, as editors do: client_auth.mjs FOLDER URL TOKEN. Prints the error that the
// person sees, and what was asked for on the way.

import { createRequire } from "node:module";
import { join } from "node:path";

const [folder, url, token] = process.argv.slice(2);
const require = createRequire(join(folder, "package.json"));
const { Client } = require("@modelcontextprotocol/sdk/client/index.js");
const { StreamableHTTPClientTransport } = require("@modelcontextprotocol/sdk/client/streamableHttp.js");

const provider = {
  redirectUrl: "http://localhost:1/callback",
  clientMetadata: { redirect_uris: ["http://localhost:1/callback"], client_name: "cortex-mcp-interop" },
  clientInformation: () => undefined,
  saveClientInformation: () => {},
  tokens: () => ({ access_token: token, token_type: "bearer" }),
  saveTokens: () => {},
  redirectToAuthorization: () => {},
  saveCodeVerifier: () => {},
  codeVerifier: () => "",
};
const asked = [];
const spying = (target, init) => {
  asked.push(new URL(target).pathname);
  return fetch(target, init);
};
const client = new Client({ name: "cortex-mcp-interop", version: "1.0.0" });
let error = null;
try {
  await client.connect(new StreamableHTTPClientTransport(new URL(url), { authProvider: provider, fetch: spying }));
} catch (caught) {
  error = `${caught.name}: ${caught.message}`;
}
console.log(JSON.stringify({ error, asked }));
process.exit(0);
