"""Replays traces under wasmtime-py: replay.py COMPONENT CONTRACT TRACE...

COMPONENT is a policy, CONTRACT the contract as JSON (see tests/corpus/contract.rs), each TRACE a file of JSON Lines,
compressed if its name ends in .gz. Every decision that the default of the trace's header made is made again, with the
recorded times and seed. Prints how many are equal, as JSON; exits with 1 if one is not.
"""

import gzip
import json
import re
import sys

from wasmtime import Engine, Store
from wasmtime.component import Component, Linker, Record, Variant

PACKAGE = "cortex:policy"
VERSION = "0.1.0"

# ---- the world of a decision: both clocks stand still, draws follow from the seed ---------------------------------------

WORD = (1 << 64) - 1


class Draws:
    """SplitMix64, of which each draw takes the upper 32 bits."""

    def __init__(self, seed):
        self.state = seed

    def next(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & WORD
        value = self.state
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & WORD
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & WORD
        value ^= value >> 31
        return value >> 32


class World:
    """What the imports tell; nothing outside of a decision."""

    wall = boot = draws = None

    def during(self, told):
        if self.draws is None:
            raise RuntimeError("an import is called outside of a decision")
        return told


# ---- values: as a trace spells them, and as wasmtime-py does ------------------------------------------------------------


def pascal(name):
    return "".join(word[0].upper() + word[1:] for word in name.split("-"))


def snake(name):
    return name.replace("-", "_")


def classes(shape):
    """The Python types that values of a type have."""
    if shape is None:
        return {object}
    if isinstance(shape, str):
        return {{"bool": bool, "string": str}.get(shape, int)}
    if "list" in shape:
        return {bytes if shape["list"] == "u8" else list}
    if "option" in shape:
        inner = classes(shape["option"])
        return {Variant} if object in inner else inner | {object}
    if "variant" in shape:
        if is_tagged(shape):
            return {Variant}
        return set().union(*(classes(payload) for _, payload in shape["cases"]))
    return {str if "enum" in shape else tuple if "tuple" in shape else Record}


def is_tagged(shape):
    """Whether a variant is a `Variant` in Python: where the types of the payloads do not tell the case."""
    seen = set()
    for _, payload in shape["cases"]:
        if seen & classes(payload):
            return True
        seen |= classes(payload)
    return False


def lower(shape, value):
    """From a trace to the component."""
    if isinstance(shape, str):
        return value
    if "option" in shape:
        return None if value is None else lower(shape["option"], value)
    if "list" in shape:
        return bytes(value) if shape["list"] == "u8" else [lower(shape["list"], one) for one in value]
    if "tuple" in shape:
        return tuple(lower(one, inner) for one, inner in zip(shape["tuple"], value, strict=True))
    if "record" in shape:
        record = Record()
        for name, field in shape["fields"]:
            setattr(record, name, lower(field, value[snake(name)]))
        return record
    said = value if isinstance(value, str) else next(iter(value))
    tag, payload = next(case for case in shape["cases"] if pascal(case[0]) == said)
    if "enum" in shape:
        return tag
    inner = None if payload is None else lower(payload, value[said])
    return Variant(tag, inner) if is_tagged(shape) else inner


def lift(shape, value):
    """From the component to a trace."""
    if isinstance(shape, str):
        return value
    if "option" in shape:
        return None if value is None else lift(shape["option"], value)
    if "list" in shape:
        return list(value) if shape["list"] == "u8" else [lift(shape["list"], one) for one in value]
    if "tuple" in shape:
        return [lift(one, inner) for one, inner in zip(shape["tuple"], value, strict=True)]
    if "record" in shape:
        return {snake(name): lift(field, getattr(value, name)) for name, field in shape["fields"]}
    if "enum" in shape:
        return pascal(value)
    if not is_tagged(shape):
        raise RuntimeError(f"no decision holds a {shape['variant']}, whose case only its type tells")
    payload = next(payload for name, payload in shape["cases"] if name == value.tag)
    return pascal(value.tag) if payload is None else {pascal(value.tag): lift(payload, value.payload)}


def difference(field, recorded, replayed):
    """The first field that differs."""
    if recorded == replayed and isinstance(recorded, bool) == isinstance(replayed, bool):
        return None
    pairs = []
    if isinstance(recorded, dict) and isinstance(replayed, dict):
        pairs = [(key, recorded.get(key), replayed.get(key)) for key in {**recorded, **replayed}]
    elif isinstance(recorded, list) and isinstance(replayed, list) and len(recorded) == len(replayed):
        pairs = zip(range(len(recorded)), recorded, replayed)
    for key, one, other in pairs:
        inside = difference(f"{field}.{key}" if field else str(key), one, other)
        if inside:
            return inside
    return {"field": field or "result", "recorded": recorded, "replayed": replayed}


# ---- references: a value that a segment repeats is in a line of its own, and its name in the decisions -------------

NAME = re.compile(r"[0-9a-f]{6}|[0-9a-f]{16}|[0-9a-f]{64}")
VALUES = {"arguments": ("config", "state", "clock"), "result": ("state",)}
LISTS = {"arguments": ("candidates", "base", "found", "ours", "theirs"), "result": ("entries",)}


def resolve(values, holder, member):
    """Puts the values in place of the references in what holds the arguments or the result."""

    def resolved(value):
        return values[value] if isinstance(value, str) and NAME.fullmatch(value) else value

    inner = (holder or {}).get(member)
    if not isinstance(inner, dict):
        return
    for name in VALUES[member]:
        if name in inner:
            inner[name] = resolved(inner[name])
    for name in LISTS[member]:
        if name in inner:
            inner[name] = [resolved(one) for one in inner[name]]


# ---- the replay ---------------------------------------------------------------------------------------------------------


class Policy:
    """A component, its imports and its functions."""

    def __init__(self, path, contract):
        self.contract = contract
        self.world = world = World()
        self.store = Store(Engine())
        linker = Linker(self.store.engine)
        with linker.root() as root:
            with root.add_instance(f"{PACKAGE}/clock@{VERSION}") as clock:
                clock.add_func("wall-ms", lambda _store: world.during(world.wall))
                clock.add_func("boot-ms", lambda _store: world.during(world.boot))
            with root.add_instance(f"{PACKAGE}/random@{VERSION}") as random:
                random.add_func("next", lambda _store: world.during(world.draws).next())
            with root.add_instance(f"{PACKAGE}/types@{VERSION}"):
                pass
        instance = linker.instantiate(self.store, Component.from_file(self.store.engine, path))
        self.functions = {}
        for name, function in contract.items():
            home = instance.get_export_index(self.store, f"{PACKAGE}/{function['interface']}@{VERSION}")
            self.functions[name] = instance.get_func(self.store, instance.get_export_index(self.store, name, home))

    def decide(self, record):
        name = record["input"]["function"]
        given = record["input"]["arguments"]
        parameters = self.contract[name]["parameters"]
        values = [lower(shape, given[snake(parameter)]) for parameter, shape in parameters]
        world = self.world
        world.wall, world.boot = record["moment"]["wall"], record["moment"]["boot"]
        world.draws = Draws(record["seed"])
        try:
            decided = self.functions[name](self.store, *values)
        finally:
            world.draws = None
        self.functions[name].post_return(self.store)
        return lift(self.contract[name]["result"], decided)


def main(component, contract, *traces):
    with open(contract, encoding="utf-8") as file:
        policy = Policy(component, json.load(file))
    report = {"records": 0, "equal": 0, "different": 0, "skipped": 0, "first_difference": None}
    for trace in traces:
        opened = gzip.open if trace.endswith(".gz") else open
        with opened(trace, "rt", encoding="utf-8", newline="\n") as lines:
            by_default, values = None, {}
            for number, text in enumerate(lines, 1):
                ((kind, record),) = json.loads(text).items()
                if kind == "header":
                    by_default, values = record["default"], {}
                if kind == "value":
                    values[record[0]] = record[1]
                if kind != "decision":
                    continue
                resolve(values, record["input"], "arguments")
                resolve(values, record["output"], "result")
                report["records"] += 1
                if record["decided_by"].get("deployed") != by_default or record.get("corrections") or not record["output"]:
                    report["skipped"] += 1
                    continue
                differs = difference("", record["output"]["result"], policy.decide(record))
                if differs is None:
                    report["equal"] += 1
                    continue
                report["different"] += 1
                place = {"file": trace, "line": number, "function": record["input"]["function"]}
                report["first_difference"] = report["first_difference"] or {
                    **place, "subject": record["subject"], **differs
                }
    print(json.dumps(report))
    return 1 if report["different"] else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
