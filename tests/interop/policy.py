"""Calls a policy under wasmtime-py: policy.py COMPONENT. Prints what `flush-after` decides, and the fuel it took, as JSON."""

import json
import sys

from wasmtime import Config, Engine, Store
from wasmtime.component import Component, Linker, Record

PACKAGE = "cortex:policy"
VERSION = "0.1.0"

config = Config()
config.consume_fuel = True
store = Store(Engine(config))
FUEL = 10**12
store.set_fuel(FUEL)
linker = Linker(store.engine)
with linker.root() as root:
    with root.add_instance(f"{PACKAGE}/clock@{VERSION}") as clock:
        clock.add_func("wall-ms", lambda _store: 1_767_225_600_000)
        clock.add_func("boot-ms", lambda _store: 1_000)
    with root.add_instance(f"{PACKAGE}/random@{VERSION}") as random:
        random.add_func("next", lambda _store: 7)
    with root.add_instance(f"{PACKAGE}/types@{VERSION}"):
        pass
instance = linker.instantiate(store, Component.from_file(store.engine, sys.argv[1]))
made = FUEL - store.get_fuel()
registry = instance.get_export_index(store, f"{PACKAGE}/registry@{VERSION}")
flush_after = instance.get_func(store, instance.get_export_index(store, "flush-after", registry))


def pending(closing):
    """One change of 1,200 ms in a batch of 5,000."""
    record = Record()
    for name, value in {
        "changes": 1,
        "bytes": 100,
        "oldest-ms": 1_200,
        "batch-ms": 5_000,
        "closing": closing,
        "write-through": False,
    }.items():
        setattr(record, name, value)
    return record


decided = []
for closing in (False, True):
    decided.append(flush_after(store, pending(closing)))
    if hasattr(flush_after, "post_return"):
        flush_after.post_return(store)
print(json.dumps({"flush-after": decided}))
if "--fuel" in sys.argv:
    print(json.dumps({"instantiation": made, "calls": FUEL - store.get_fuel() - made}), file=sys.stderr)
