"""What two records were made of, and how that differs: models, inputs, engines, versions, settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from parity.judge import REFERENCE

Record = Mapping[str, Any]

_SETTINGS = ("device", "tf32")
_MOST_LAYERS = 3


@dataclass(frozen=True)
class Moved:
    """A version, setting, source, engine or failure that is not what it was; "" where there is none."""

    name: str
    then: str
    now: str

    def __str__(self) -> str:
        return f"{self.name} {self.then or 'none'} -> {self.now or 'none'}"


def engines_now(earlier: Record, record: Record) -> dict[str, str]:
    """The engines of the earlier record -> those of this one: of one label, else of one engine and the source at the same place."""
    now = {engine["label"]: _identity(record, engine) for engine in record["engines"]}
    then = {engine["label"]: _identity(earlier, engine) for engine in earlier["engines"]}
    found = {label: label for label in then if label in now}
    for label, identity in then.items():
        free = [other for other, own in now.items() if own == identity and other not in found.values()]
        if label not in found and free:
            found[label] = free[0]
    return found


def _identity(record: Record, engine: Record) -> tuple[str, int]:
    labels = [source["label"] for source in record["sources"]]
    return engine["engine"], labels.index(engine["source"]) if engine["source"] in labels else -1


def other_inputs(earlier: Record, record: Record) -> Iterator[str]:
    """Why the quantities of two records cannot be laid beside each other."""
    then, now = earlier["inputs"], record["inputs"]
    for name in ("batch", "time", "features", "shapes"):
        if then.get(name) != now.get(name):
            yield f"other sizes: {name} {_said(then.get(name))} then, {_said(now.get(name))} now"
            return
    if then["sha256"] != now["sha256"]:
        seeds = f"seed {then.get('seed')} then, {now.get('seed')} now; "
        random = then.get("inputs") == now.get("inputs") == "random" and then.get("seed") != now.get("seed")
        digests = f"SHA-256 {str(then['sha256'])[:12]}... then, {str(now['sha256'])[:12]}... now"
        yield f"other inputs: {seeds if random else ''}{digests}"
    masks = [
        None if mask is None else (mask["valid"], mask["total"], mask["lengths"])
        for mask in (earlier["mask"], record["mask"])
    ]
    if masks[0] != masks[1] or _others(then, now, "mask_sha256"):
        valid = ["no padding" if mask is None else f"{mask[0]} of {mask[1]} steps valid" for mask in masks]
        yield f"other padding: {valid[0]} then, {valid[1]} now" + (", at other places" if valid[0] == valid[1] else "")
    if then.get("initial_state") != now.get("initial_state"):
        yield f"other initial states: {then.get('initial_state')} then, {now.get('initial_state')} now"
    elif _others(then, now, "initial_state_sha256"):
        states = [f"SHA-256 {side['initial_state_sha256'][:12]}..." for side in (then, now)]
        yield f"other initial states: {states[0]} then, {states[1]} now"


def unknown_inputs(earlier: Record, record: Record) -> Iterator[str]:
    """What a record, as one of an older version, does not say of the inputs: whether it is the same is not known."""
    then, now = earlier["inputs"], record["inputs"]
    given = {
        "initial_state_sha256": ("initial states it had", now.get("initial_state") == "given"),
        "mask_sha256": ("steps were valid", None not in (earlier["mask"], record["mask"])),
    }
    for name, (what, there) in given.items():
        if there and (name in then) != (name in now):
            who = "the baseline" if name in now else "this record"
            yield f"{who} does not say which {what}, so whether they are the same is not known"


def _others(then: Record, now: Record, name: str) -> bool:
    """Whether both records say what something is, and say other things."""
    return None not in (then.get(name), now.get(name)) and then[name] != now[name]


def other_sources(then: list[Record], now: list[Record]) -> Iterator[Moved]:
    """What is known to differ in the sources, place by place; a record may not know the weights."""
    for old, new in zip(then, now, strict=False):
        known = [source.get("weights") for source in (old, new)]
        if None not in known and known[0] != known[1]:
            yield Moved(f"weights of {new['label']}", f"{str(known[0])[:12]}...", f"{str(known[1])[:12]}...")
        yield from _other_layers(old, new)
    yield from (Moved(f"source {source['label']}", "compared", "gone") for source in then[len(now) :])
    yield from (Moved(f"source {source['label']}", "none", "new") for source in now[len(then) :])


def _other_layers(then: Record, now: Record) -> Iterator[Moved]:
    """How the layers of a source differ, whatever they are called."""
    old, new = (
        [{key: value for key, value in layer.items() if key != "name"} for layer in source["layers"]]
        for source in (then, now)
    )
    if len(old) != len(new):
        yield Moved(f"layers of {now['label']}", f"{len(old)} layers", f"{len(new)} layers")
        return
    unlike = [place for place in range(len(old)) if old[place] != new[place]]
    for place in unlike[:_MOST_LAYERS]:
        keys = [key for key in {**old[place], **new[place]} if old[place].get(key) != new[place].get(key)]
        texts = [", ".join(f"{key} {_said(side.get(key))}" for key in keys) for side in (old[place], new[place])]
        yield Moved(f"options of layer {now['layers'][place]['name']} of {now['label']}", *texts)
    if rest := len(unlike[_MOST_LAYERS:]):
        yield Moved(f"options of {rest} more layers of {now['label']}", "others", "others")


def unknown_weights(then: list[Record], now: list[Record]) -> Iterator[str]:
    """Sources of which a record does not say which weights they had."""
    for old, new in zip(then, now, strict=False):
        if None in (old.get("weights"), new.get("weights")):
            who = "the baseline" if old.get("weights") is None else "this record"
            yield f"{who} does not say which weights {new['label']} has, so whether they are the same is not known"


def other_versions(earlier: Record, record: Record) -> Iterator[Moved]:
    """Of Python, the packages and the platform."""
    return differing(_versions(earlier), _versions(record))


def _versions(record: Record) -> dict[str, str]:
    environment = record["environment"]
    return {"python": environment["python"], **environment["packages"], "platform": environment["platform"]}


def other_settings(earlier: Record, record: Record, engines: Mapping[str, str]) -> Iterator[Moved]:
    """Of the run, and of the engines that both have."""
    own = {name: name for name in engines.values()}
    return differing(_settings(earlier, engines), _settings(record, own))


def _settings(record: Record, labels: Mapping[str, str]) -> dict[str, str]:
    """Options of the run and of the engines that both records have; versions stand elsewhere."""
    packages = record["environment"]["packages"]
    found = {name: _said(record["inputs"].get(name)) for name in _SETTINGS}
    found["limit"] = _said(record["judging"]["limit"])
    for engine in record["engines"]:
        label = labels.get(engine["label"])
        if label is None or label == REFERENCE:
            continue
        own = {name: str(value) for name, value in engine["settings"].items() if name not in packages}
        if "backend" in own:
            own["backend"] = own["backend"].split()[0]
        found |= {f"{label}: {name}": value for name, value in own.items() if engine["label"] not in record["failures"]}
    return found


def differing(then: Mapping[str, str], now: Mapping[str, str]) -> Iterator[Moved]:
    """The entries of two tables that are not the same."""
    for name in dict.fromkeys((*then, *now)):
        if then.get(name) != now.get(name):
            yield Moved(name, str(then.get(name, "")), str(now.get(name, "")))


def _said(value: object) -> str:
    return "none" if value is None else str(value)


__all__ = [
    "Moved",
    "differing",
    "engines_now",
    "other_inputs",
    "other_settings",
    "other_sources",
    "other_versions",
    "unknown_inputs",
    "unknown_weights",
]
