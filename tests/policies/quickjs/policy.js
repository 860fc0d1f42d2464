// A whole policy in JavaScript, run by QuickJS inside the component: cortex-mcp loads it like any other.
//
// It decides as simply as it can and stays safe: what expired, or is older than what was accepted before, is refused;
// last known good is served up to `maxStaleMs`; failures back off exponentially, with jitter.
//
// Built with `@bytecodealliance/jco` and `componentize-qjs` from npm, against the files of `cortex-mcp policy wit`:
//
//   jco componentize policy.js -w wit -n policy -o policy.wasm --backend qjs --backend-qjs-disable-async --backend-qjs-stub-wasi
//
// How the contract looks from here: records are objects with camelCase fields, enums are strings in kebab-case, variants
// are `{ tag, val }`, options are `null` or a value, lists are arrays. Every `u64` is a number, exact up to 2^53,
// which is as far as the contract goes; a BigInt must never be returned. `Date` and `Math.random` are not for a policy:
// only the two imports differ from decision to decision, and a decision may depend on nothing else.

import { wallMs, bootMs } from "cortex:policy/clock@0.1.0";
import { next as draw } from "cortex:policy/random@0.1.0";

const HOUR_MS = 3_600_000;
const FUTURE_MS = 300_000;

/** A whole number from `least` to `greatest`, from one draw of 32 bits. */
const between = (least, greatest) => least + Math.floor((draw() / 2 ** 32) * (greatest - least + 1));

/** Half of `ceiling` for certain, the other half by chance. */
const jittered = (ceiling) => between(Math.floor(ceiling / 2), ceiling);

/** `least`, doubled for each failure after the first, at most `most`; jittered. */
function backoff(least, most, failures) {
  const first = Math.max(least, 100);
  return jittered(Math.min(first * 2 ** Math.min(failures - 1, 30), Math.max(most, first)));
}

// ---- when to refresh, whom to try, who goes first, how many at once -------------------------------------------------

/** At most one run is armed or under way, and only the run under way can end itself. */
function refresh(config, state, event) {
  const now = bootMs();
  const interval = Math.min(Math.max(config.intervalMs, 1_000), 24 * HOUR_MS);
  const { phase } = state;
  const decide = (change, reason) => {
    const next = { ...state, ...change };
    return { state: next, runAtBootMs: next.phase.tag === "armed" ? next.phase.val.runAtBootMs : null, reason };
  };
  const idle = { tag: "idle" };
  const arm = (delay, reason, change = {}) =>
    decide({ ...change, phase: { tag: "armed", val: { runAtBootMs: now + delay, reason } } }, reason);

  /** Arms a run for somebody who wishes one: what is armed is brought forward, never put off. */
  const wish = (delay, reason) => {
    if (phase.tag === "running") return decide({}, "already-running");
    if (phase.tag === "idle") return arm(delay, reason);
    // Whoever fails has a pace of its own, which no wish may shorten.
    if (state.failures > 0 || phase.val.runAtBootMs <= now + delay) return decide({}, "already-armed");
    return arm(delay, reason);
  };
  /** Like a wish, but a run under way may have missed it: it is repeated. */
  const missed = (delay, reason) =>
    phase.tag === "running"
      ? decide({ phase: { tag: "running", val: { ...phase.val, again: true } } }, reason)
      : wish(delay, reason);
  const onDemand = config.mode === "on-demand";

  switch (event.tag) {
    case "started":
      if (event.val.start === "cold") return arm(0, "cold-start", { bootId: event.val.bootId });
      if (onDemand) return decide({ bootId: event.val.bootId, phase: idle }, "on-demand");
      return arm(between(0, interval), "warm-start", { bootId: event.val.bootId });
    case "began": {
      if (phase.tag !== "armed") return decide({}, "late");
      const run = { runId: state.nextRunId, sinceBootMs: now, again: false };
      return decide({ phase: { tag: "running", val: run }, nextRunId: state.nextRunId + 1 }, "began");
    }
    case "succeeded":
    case "failed":
    case "cancelled": {
      const runId = event.tag === "cancelled" ? event.val : event.val.runId;
      if (phase.tag !== "running" || phase.val.runId !== runId) return decide({}, "late");
      return ended(config, state, event, { now, interval, onDemand, arm, decide });
    }
    case "wanted":
      return event.val === "blocking" ? wish(0, "wanted-blocking") : wish(between(0, interval / 10), "wanted-background");
    case "forced":
      if (phase.tag === "running") return decide({}, "joined");
      return arm(0, "forced");
    case "changed":
      return missed(between(0, interval / 10), "changed");
    case "credentials-changed":
      if (phase.tag === "running") return missed(0, "credentials-changed");
      return arm(0, "credentials-changed", { failures: 0, lastClass: null });
    case "resumed":
      return onDemand ? decide({}, "on-demand") : wish(between(0, interval / 10), "resumed");
    case "config-changed":
      return onDemand ? decide({}, "on-demand") : wish(between(0, interval), "config-changed");
    case "stopped":
      return decide({ phase: idle }, "stopped");
  }
}

/** The run under way has ended: when is the next one? */
function ended(config, state, event, { now, interval, onDemand, arm, decide }) {
  const again = state.phase.val.again;
  const common = { phase: { tag: "idle" }, lastEndBootMs: now };
  if (event.tag === "succeeded") {
    const good = { ...common, failures: 0, lastClass: null };
    if (again) return arm(0, "changed", good);
    if (onDemand) return decide(good, "on-demand");
    const spread = Math.floor((interval * config.jitterPermille) / 1_000);
    const intervalMs = Math.max(between(interval - spread, interval + spread), config.floorMs);
    return arm(intervalMs, "steady", { ...good, intervalMs });
  }
  if (event.tag === "cancelled") {
    return onDemand ? decide(common, "cancelled") : arm(jittered(interval), "cancelled", common);
  }
  const { class: lastClass, retryAfterMs } = event.val;
  const bad = { ...common, failures: state.failures + 1, lastClass };
  if (again) return arm(0, "changed", bad);
  if (onDemand) return decide(bad, "on-demand");
  if (lastClass === "auth") return arm(10 * interval, "auth-wait", bad);
  const wait = backoff(config.backoffMinMs, config.backoffMaxMs, bad.failures);
  const asked = Math.min(retryAfterMs ?? 0, HOUR_MS);
  return asked > wait ? arm(asked + jittered(asked / 4), "retry-after", bad) : arm(wait, "backoff", bad);
}

/** Until when a breaker lets nothing pass; null if it is closed. */
const shutUntil = ({ tag, val }) => (tag === "closed" ? null : tag === "open" ? val.untilBootMs : val.deadlineBootMs);

/** Opens after failures in a row; then one probe at a time may try. */
function breaker(config, state, event) {
  const now = bootMs();
  let { phase, consecutive, opened, nextProbeId } = state;
  let reason = "closed";
  const open = (why) => {
    opened += 1;
    phase = { tag: "open", val: { untilBootMs: now + backoff(config.openMinMs, config.openMaxMs, opened) } };
    reason = why;
  };
  const isProbe = phase.tag === "half-open" && event.val === phase.val.probeId;
  const counts = isProbe || (phase.tag === "closed" && event.val === null);
  if (event.tag === "asked") {
    const until = shutUntil(phase);
    if (until !== null && now < until) {
      reason = phase.tag === "open" ? "open" : "probe-in-flight";
    } else if (until !== null) {
      const val = { probeId: nextProbeId, deadlineBootMs: now + Math.max(config.probeDeadlineMs, 1) };
      nextProbeId += 1;
      const changed = { ...state, phase: { tag: "half-open", val }, nextProbeId };
      return { state: changed, verdict: { tag: "probe", val: val.probeId }, reason: "probing" };
    }
  } else if (!counts) {
    reason = "late";
  } else if (event.tag === "succeeded") {
    if (isProbe) reason = "probe-succeeded";
    [phase, consecutive, opened] = [{ tag: "closed" }, 0, 0];
  } else if (event.tag === "failed") {
    consecutive += 1;
    if (isProbe) open("probe-failed");
    else if (consecutive >= config.failureThreshold) open("consecutive-failures");
  } else if (isProbe) {
    phase = { tag: "open", val: { untilBootMs: now } };
    reason = "probe-lost";
  }
  const until = shutUntil(phase);
  const verdict =
    until === null
      ? { tag: "allow" }
      : now < until
        ? { tag: "reject", val: until }
        : { tag: "probe", val: nextProbeId };
  return { state: { ...state, phase, consecutive, opened, nextProbeId }, verdict, reason };
}

/** Who fails goes last; of the others, who is waited for goes first. */
function plan(config, candidates) {
  const order = candidates.map((_, position) => position);
  const rank = (at) => candidates[at].failures * 2 + (candidates[at].wanted ? 0 : 1);
  order.sort((one, other) => rank(one) - rank(other) || one - other);
  return { order, slowAfterMs: Math.max(config.slowAfterMs, 1) };
}

/** The configured number, whatever happens. */
function concurrency(config, state, event) {
  const inFlight = event.tag === "began" ? state.inFlight + 1 : Math.max(state.inFlight - 1, 0);
  const limit = Math.max(config.fixed ?? config.maximum, 1);
  return { state: { ...state, inFlight, limitMilli: limit * 1_000 }, limit, reason: "fixed" };
}

// ---- what is fresh, stale or forbidden ------------------------------------------------------------------------------

const isForeign = (config, value) => value.scope === "private" && value.credential !== config.credential;

/** How long ago something was; null if only a wall clock could tell, and it stands before it. */
function ageOf(config, since) {
  if (since.bootId === config.bootId) return Math.max(bootMs() - since.bootMs, 0);
  if (wallMs() + config.skewMs < since.wallMs) return null;
  return Math.max(wallMs() - since.wallMs, 0);
}

/** How good a value is, why, and for how much longer that holds (0: it may not be served). */
function judge(config, { value, failing }) {
  if (value === null) return ["empty", "no-value", 0];
  if (isForeign(config, value)) return ["empty", "other-credential", 0];
  const known = ageOf(config, value.staleSince ?? value.requested);
  // It is from before this boot, and so at least as old as that.
  const age = known ?? bootMs();
  const fresh = value.staleSince === null ? value.freshMs : 0;
  const left = fresh + config.maxStaleMs - age;
  const good = known !== null && !value.invalidated && value.standing === "within";
  if (good && age < fresh) return ["fresh", "within-ttl", fresh - age];
  if (config.maxStaleMs === 0 || left <= 0) return ["expired", "past-max-stale", 0];
  if (value.standing === "frozen") return ["frozen", "frozen", left];
  if (failing !== null) return ["stale-error", "refresh-failing", left];
  return ["stale", value.invalidated ? "invalidated" : "past-ttl", left];
}

function lookup(config, state) {
  const now = bootMs();
  const [freshness, reason, left] = judge(config, state);
  const { failing } = state;
  const serve = left > 0 ? "serve" : "withhold";
  let wanted = left > 0 ? "background" : "blocking";
  let untilBootMs = left > 0 ? now + left : null;
  if (freshness === "fresh" || state.inFlight !== null) {
    wanted = "none";
  } else if (failing !== null && failing.at.bootId === config.bootId && now < failing.untilBootMs) {
    wanted = "none";
    untilBootMs = Math.min(untilBootMs ?? Infinity, failing.untilBootMs);
  }
  return { state: freshness, serve, wanted, untilBootMs, reason };
}

function advance(config, state, event) {
  const done = (outcome, reason, change = {}) => ({ state: { ...state, ...change }, outcome, reason });
  const { value } = state;
  const over = { inFlight: null };
  switch (event.tag) {
    case "began":
      return done("kept", "began", { inFlight: event.val });
    case "fetched":
      return fetched(config, state, event.val, done);
    case "not-modified": {
      if (value?.digest !== event.val.digest || isForeign(config, value)) {
        // The tag was not for what is held: the next request goes without one.
        return done("kept", "confirmed-other", { ...over, value: value && { ...value, etag: null } });
      }
      if (value.signedExpiryWallMs !== null && wallMs() >= value.signedExpiryWallMs) {
        const frozen = { ...value, standing: "frozen", etag: null };
        return done("kept", "frozen", { ...over, failing: null, value: frozen });
      }
      const { requested, ttlMs } = event.val;
      const freshMs = freshFor(config, ttlMs, value.signedExpiryWallMs, requested);
      const confirmed = { ...value, requested, freshMs, softMs: freshMs, invalidated: false };
      return done("kept", "confirmed", { ...over, failing: null, value: confirmed });
    }
    case "failed": {
      const failing = failure(config, state, event.val);
      if (event.val === "gone") return done("dropped", "gone", { ...over, failing, value: null });
      return done("kept", "failed", { ...over, failing });
    }
    case "cancelled":
    case "restored":
      return done("kept", event.tag, over);
    case "changed":
    case "invalidated":
      return done("kept", event.tag, { value: value && { ...value, invalidated: true } });
    case "revoked":
      return done("dropped", "revoked", { value: null });
    case "credentials-changed": {
      const gone = value !== null && isForeign(config, value);
      const change = { failing: null, value: gone ? null : value };
      return done(gone ? "dropped" : "kept", "credentials-changed", change);
    }
  }
}

/** A verified value arrived: it is taken unless it is older than, or contradicts, what was accepted before. */
function fetched(config, state, event, done) {
  const { digest, version, signedExpiryWallMs, requested, scope, credential } = event;
  const keyId = event.keyId ?? "";
  const over = { inFlight: null };
  const refuse = (reason) => done("rejected", reason, { ...over, failing: failure(config, state, "rollback") });
  if (version !== null) {
    if (version > wallMs() + config.skewMs) return refuse("from-the-future");
    for (const ratchet of state.ratchets) {
      const binds = ratchet.keyId === keyId || event.keySet.includes(ratchet.keyId);
      if (binds && version < ratchet.version) return refuse("rollback");
      const same = ratchet.keyId === keyId && version === ratchet.version;
      if (same && digest !== ratchet.digest) return refuse("equivocation");
    }
  }
  if (signedExpiryWallMs !== null && wallMs() >= signedExpiryWallMs) return refuse("refused-expired");
  const others = state.ratchets.filter((ratchet) => ratchet.keyId !== keyId);
  others.sort((one, other) => other.version - one.version);
  const ratchets = version === null ? state.ratchets : [...others.slice(0, 15), { keyId, version, digest }];
  const freshMs = freshFor(config, event.ttlMs, signedExpiryWallMs, requested);
  const value = {
    digest,
    etag: event.etag === null ? null : { tag: event.etag, digest },
    keyId: event.keyId,
    version,
    signedExpiryWallMs,
    requested,
    staleSince: null,
    freshMs,
    softMs: freshMs,
    invalidated: false,
    standing: "within",
    scope,
    credential,
  };
  const same = state.value?.digest === digest;
  const change = { ...over, failing: null, ratchets, value };
  return same ? done("kept", "same-again", change) : done("stored", "newer", change);
}

/** For how long from its request a value is fresh: never past its signed expiry. */
function freshFor(config, ttlMs, signedExpiryWallMs, requested) {
  const ttl = ttlMs ?? config.ttlDefaultMs;
  const clamped = ttl === 0 ? 0 : Math.min(Math.max(ttl, config.ttlMinMs), config.ttlMaxMs);
  return Math.min(clamped, Math.max((signedExpiryWallMs ?? Infinity) - requested.wallMs, 0));
}

/** Failures in a row set the pace of readers while nothing can be served. */
function failure(config, state, failureClass) {
  const at = { wallMs: wallMs(), bootMs: bootMs(), bootId: config.bootId };
  const count = (state.failing?.count ?? 0) + 1;
  const untilBootMs = at.bootMs + backoff(config.negativeMinMs, config.negativeMaxMs, count);
  return { count, class: failureClass, at, untilBootMs };
}

// ---- who wins when several writers change the same things -----------------------------------------------------------

const text = (one, other) => (one < other ? -1 : one > other ? 1 : 0);
const byStamp = (one, other) => one.wallMs - other.wallMs || one.counter - other.counter;

/** The total order of entries of one name: stamp, writer, removal, digest. */
const byRank = (one, other) =>
  byStamp(one.stamp, other.stamp) ||
  text(one.writer, other.writer) ||
  Number(one.deleted) - Number(other.deleted) ||
  text(one.digest, other.digest);

const greater = (one, other) => (byStamp(one, other) >= 0 ? one : other);
const sameContent = (one, other) => one.deleted === other.deleted && one.digest === other.digest;
const byName = (one, other) => text(one.name, other.name);

/** The stamp after `last`: the wall clock if it is ahead, else the next of the same millisecond. */
function after(last) {
  if (wallMs() > last.wallMs) return { wallMs: wallMs(), counter: 0 };
  if (last.counter < 2 ** 32 - 1) return { wallMs: last.wallMs, counter: last.counter + 1 };
  return { wallMs: last.wallMs + 1, counter: 0 };
}

function stamp(clock) {
  const given = after(clock.last);
  return { state: { ...clock, last: given }, stamp: given };
}

/** What a foreign editor changed, added or removed bears a fresh stamp; what a cooperating writer stamped keeps its own. */
function adopt(clock, writer, base, found) {
  const stamps = [...base.map((entry) => entry.stamp), ...found.flatMap((entry) => entry.stamp ?? [])];
  let last = stamps.reduce(greater, clock.last);
  const fresh = () => (last = after(last));
  const entries = new Map([...base].sort(byRank).map((entry) => [entry.name, entry]));
  const names = new Set(found.map((entry) => entry.name));
  for (const { name, digest, stamp: own, writer: by } of found) {
    const before = entries.get(name);
    if (own !== null && (before === undefined || byStamp(own, before.stamp) > 0)) {
      entries.set(name, { name, stamp: own, writer: by ?? writer, deleted: false, digest });
    } else if (before === undefined || before.deleted || before.digest !== digest) {
      entries.set(name, { name, stamp: fresh(), writer, deleted: false, digest });
    }
  }
  for (const { name, deleted } of [...entries.values()].sort(byName)) {
    if (!deleted && !names.has(name)) entries.set(name, { name, stamp: fresh(), writer, deleted: true, digest: "" });
  }
  const all = [...entries.values()].sort(byName);
  const late = all.filter((entry) => entry.stamp.wallMs > wallMs() + FUTURE_MS);
  return { state: { ...clock, last }, entries: all, fromTheFuture: late.map((entry) => entry.name) };
}

/** For each name the greater entry; those that lost against another content are told too. */
function merge(ours, theirs) {
  const all = [...ours, ...theirs].sort((one, other) => byName(one, other) || byRank(one, other));
  const won = new Map(all.map((entry) => [entry.name, entry]));
  const lost = all.filter((entry) => !sameContent(entry, won.get(entry.name)));
  const superseded = lost.filter((entry, at) => at === 0 || byName(entry, lost[at - 1]) || byRank(entry, lost[at - 1]));
  return { entries: [...won.values()], superseded };
}

function flushAfter(pending) {
  if (pending.closing || pending.writeThrough) return 0;
  return Math.max(pending.batchMs - pending.oldestMs, 0);
}

export const scheduling = { refresh, breaker, plan, concurrency };
export const caching = { lookup, advance };
export const registry = { stamp, adopt, merge, flushAfter };
