// Imported before a server's program (node --import): it listens on the loopback address and on a free port, whatever
// it asks for. The port is the only line of its stdout, as {"port": N}; what it prints there itself goes to stderr.

import { Server } from "node:net";

const listen = Server.prototype.listen;
Server.prototype.listen = function (_port, listening) {
  this.once("listening", () => process.stdout.write(`${JSON.stringify({ port: this.address().port })}\n`));
  return listen.call(this, { host: "127.0.0.1", port: 0 }, listening);
};
console.log = console.error;
