// Replays traces under Node: replay.mjs MODULE CONTRACT TRACE...
//
// MODULE is what `jco transpile --instantiation async` made of a policy component, CONTRACT the contract as JSON (see
// tests/corpus/contract.rs), each TRACE a file of JSON Lines, compressed if its name ends in .gz. Every decision that the
// default of the trace's header made is made again, with the recorded times and seed. Prints how many are equal, as JSON;
// exits with 1 if one is not.

import { createReadStream } from "node:fs";
import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";
import { createGunzip } from "node:zlib";

const [path, contractPath, ...traces] = process.argv.slice(2);

// ---- the world of a decision: both clocks stand still, draws follow from the seed -----------------------------------

const WORD = (1n << 64n) - 1n;

/** SplitMix64, of which each draw takes the upper 32 bits. */
class Draws {
  constructor(seed) {
    this.state = BigInt(seed);
  }
  next() {
    this.state = (this.state + 0x9e3779b97f4a7c15n) & WORD;
    let value = this.state;
    value = ((value ^ (value >> 30n)) * 0xbf58476d1ce4e5b9n) & WORD;
    value = ((value ^ (value >> 27n)) * 0x94d049bb133111ebn) & WORD;
    value ^= value >> 31n;
    return Number(value >> 32n);
  }
}

let decision = null;
function during() {
  if (decision === null) throw new Error("an import is called outside of a decision");
  return decision;
}
const imports = {
  "cortex:policy/clock": { wallMs: () => during().wall, bootMs: () => during().boot },
  "cortex:policy/random": { next: () => during().draws.next() },
  "cortex:policy/types": {},
};

// ---- values: as a trace spells them, and as jco does ----------------------------------------------------------------

const capital = (word) => word[0].toUpperCase() + word.slice(1);
const camel = (name) => name.split("-").map((word, at) => (at === 0 ? word : capital(word))).join("");
const pascal = (name) => name.split("-").map(capital).join("");
const snake = (name) => name.replaceAll("-", "_");

function safe(number) {
  if (!Number.isSafeInteger(number)) throw new Error(`${number} is no whole number below 2^53`);
  return number;
}

function found(shape, matches, what) {
  const one = shape.cases.find(matches);
  if (one === undefined) throw new Error(`${shape.variant ?? shape.enum} has no case ${what}`);
  return one;
}

/** From a trace to the component. */
function lower(shape, value) {
  if (shape === "u64") return BigInt(safe(value));
  if (typeof shape === "string") return value;
  if ("option" in shape) return value === null ? undefined : lower(shape.option, value);
  if ("list" in shape) return shape.list === "u8" ? Uint8Array.from(value) : value.map((one) => lower(shape.list, one));
  if ("tuple" in shape) return shape.tuple.map((one, at) => lower(one, value[at]));
  if ("record" in shape) {
    return Object.fromEntries(shape.fields.map(([name, field]) => [camel(name), lower(field, value[snake(name)])]));
  }
  const said = typeof value === "string" ? value : Object.keys(value)[0];
  const [tag, payload] = found(shape, ([name]) => pascal(name) === said, said);
  if ("enum" in shape) return tag;
  return payload === null ? { tag } : { tag, val: lower(payload, value[said]) };
}

/** From the component to a trace. */
function lift(shape, value) {
  if (shape === "u64") return safe(Number(value));
  if (typeof shape === "string") return value;
  if ("option" in shape) return value === undefined || value === null ? null : lift(shape.option, value);
  if ("list" in shape) return Array.from(value, (one) => lift(shape.list, one));
  if ("tuple" in shape) return shape.tuple.map((one, at) => lift(one, value[at]));
  if ("record" in shape) {
    return Object.fromEntries(shape.fields.map(([name, field]) => [snake(name), lift(field, value[camel(name)])]));
  }
  const tag = "enum" in shape ? value : value.tag;
  const [, payload] = found(shape, ([name]) => name === tag, tag);
  return payload === null ? pascal(tag) : { [pascal(tag)]: lift(payload, value.val) };
}

/** The first field that differs. */
function difference(field, recorded, replayed) {
  if (recorded === replayed) return null;
  const object = (value) => typeof value === "object" && value !== null;
  if (object(recorded) && object(replayed) && Array.isArray(recorded) === Array.isArray(replayed)) {
    for (const key of new Set([...Object.keys(recorded), ...Object.keys(replayed)])) {
      const inside = difference(field === "" ? key : `${field}.${key}`, recorded[key], replayed[key]);
      if (inside !== null) return inside;
    }
    return null;
  }
  return { field: field || "result", recorded: recorded ?? null, replayed: replayed ?? null };
}

// ---- references: a value that a segment repeats is in a line of its own, and its name in the decisions -----------

const NAME = /^(?:[0-9a-f]{6}|[0-9a-f]{16}|[0-9a-f]{64})$/;
const REFERRING = {
  arguments: { values: ["config", "state", "clock"], lists: ["candidates", "base", "found", "ours", "theirs"] },
  result: { values: ["state"], lists: ["entries"] },
};

function resolved(values, value) {
  if (typeof value !== "string" || !NAME.test(value)) return value;
  if (!values.has(value)) throw new Error(`the value ${value} is not defined`);
  return values.get(value);
}

/** Puts the values in place of the references in what holds the arguments or the result. */
function resolve(values, holder, member) {
  const inner = holder?.[member];
  if (typeof inner !== "object" || inner === null) return;
  for (const name of REFERRING[member].values) if (name in inner) inner[name] = resolved(values, inner[name]);
  for (const name of REFERRING[member].lists) {
    if (name in inner) inner[name] = inner[name].map((one) => resolved(values, one));
  }
}

function opened(file) {
  const stream = createReadStream(file);
  return file.endsWith(".gz") ? stream.pipe(createGunzip()) : stream;
}

// ---- the replay -----------------------------------------------------------------------------------------------------

const contract = JSON.parse(await readFile(contractPath, "utf8"));
const module = pathToFileURL(path);
const { instantiate } = await import(module);
const policy = await instantiate(async (name) => WebAssembly.compile(await readFile(new URL(name, module))), imports);

function made(record) {
  const { interface: home, parameters, result } = contract[record.input.function];
  const values = parameters.map(([name, shape]) => lower(shape, record.input.arguments[snake(name)]));
  const { wall, boot } = record.moment;
  decision = { wall: BigInt(safe(wall)), boot: BigInt(safe(boot)), draws: new Draws(safe(record.seed)) };
  try {
    return lift(result, policy[home][camel(record.input.function)](...values));
  } finally {
    decision = null;
  }
}

const report = { records: 0, equal: 0, different: 0, skipped: 0, first_difference: null };
for (const file of traces) {
  let line = 0;
  let byDefault = null;
  const values = new Map();
  for await (const text of createInterface({ input: opened(file), crlfDelay: Infinity })) {
    line += 1;
    const [[kind, record]] = Object.entries(JSON.parse(text));
    if (kind === "header") {
      byDefault = record.default;
      values.clear();
    }
    if (kind === "value") values.set(...record);
    if (kind !== "decision") continue;
    resolve(values, record.input, "arguments");
    resolve(values, record.output, "result");
    report.records += 1;
    if (record.decided_by.deployed !== byDefault || (record.corrections ?? []).length > 0 || record.output === null) {
      report.skipped += 1;
      continue;
    }
    const differs = difference("", record.output.result, made(record));
    if (differs === null) {
      report.equal += 1;
    } else {
      report.different += 1;
      report.first_difference ??= { file, line, function: record.input.function, subject: record.subject, ...differs };
    }
  }
}
console.log(JSON.stringify(report));
process.exitCode = report.different > 0 ? 1 : 0;
