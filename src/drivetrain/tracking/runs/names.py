"""Names for runs that were given none: easy to say, and different enough within an experiment."""

from __future__ import annotations

import random

_HOW = (
    "able", "amber", "ample", "bold", "brave", "bright", "brisk", "calm", "clean", "clever", "crisp", "daring", "deep", "eager",
    "fair", "fast", "fine", "fleet", "fond", "frank", "fresh", "gentle", "glad", "golden", "grand", "happy", "hardy", "honest",
    "humble", "keen", "kind", "lively", "loyal", "lucid", "mellow", "merry", "mild", "neat", "noble", "patient", "plain", "polite",
    "proud", "quick", "quiet", "rare", "ready", "rosy", "sharp", "silent", "smart", "smooth", "solid", "steady", "still", "stout",
    "sunny", "swift", "tidy", "trusty", "upbeat", "vivid", "warm", "wise",
)  # fmt: skip
_WHAT = (
    "axle", "badger", "bear", "bearing", "belt", "camshaft", "chain", "clutch", "condor", "crane", "crank", "deer", "dove", "eagle",
    "elk", "falcon", "finch", "flywheel", "fox", "gasket", "gear", "gull", "hare", "hawk", "heron", "horse", "hub", "ibis", "jay",
    "kite", "koala", "lark", "lever", "lion", "lynx", "magpie", "marten", "mole", "moose", "moth", "newt", "otter", "owl", "panda",
    "pedal", "pinion", "piston", "plover", "pulley", "quail", "raven", "robin", "rotor", "seal", "shaft", "shrew", "snail", "spring",
    "stork", "swan", "tern", "turbine", "valve", "wren",
)  # fmt: skip


def random_name() -> str:
    source = random.SystemRandom()
    return f"{source.choice(_HOW)}-{source.choice(_WHAT)}-{source.randrange(1000)}"
