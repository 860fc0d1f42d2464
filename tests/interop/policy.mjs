// Calls a policy under Node: policy.mjs MODULE, the module that `jco transpile --instantiation async` made of a
// component. Prints what `flush-after` decides, as JSON.

import { readFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";

const [path] = process.argv.slice(2);
const module = pathToFileURL(path);
const { instantiate } = await import(module);
const load = async (name) => WebAssembly.compile(await readFile(new URL(name, module)));
const policy = await instantiate(load, {
  "cortex:policy/clock": { wallMs: () => 1_767_225_600_000n, bootMs: () => 1_000n },
  "cortex:policy/random": { next: () => 7 },
  "cortex:policy/types": {},
});
const pending = { changes: 1, bytes: 100n, oldestMs: 1_200n, batchMs: 5_000n, closing: false, writeThrough: false };
const decided = [pending, { ...pending, closing: true }].map((pending) => Number(policy.registry.flushAfter(pending)));
console.log(JSON.stringify({ "flush-after": decided }));
