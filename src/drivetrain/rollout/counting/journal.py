"""Tallies on disk: each batch that is counted is a row, and now and then all that was counted is one, in place of the rows before it.

Whoever counts keeps the tally in memory, writes down what it adds, and reads what others have added since it last looked. So a fold costs
three statements, however many units there are, and several servers on one database count into the same tally. What was counted in a
transaction that failed is in memory only: then its token is not in the database, and the tally is read anew.

A tally that cannot be counted (another version of drivetrain wrote it) is given up alone: it must not keep the events of all others from
being folded.
"""

from __future__ import annotations

import logging
import threading
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec
import sqlalchemy as sa

from drivetrain.errors import DrivetrainError
from drivetrain.rollout import tables as t
from drivetrain.rollout.counting.batch import Batch
from drivetrain.rollout.counting.rules import Rules
from drivetrain.rollout.counting.tally import Tally
from drivetrain.rollout.model import Tallied
from drivetrain.store.ids import uuid7
from drivetrain.store.sql import upsert

log = logging.getLogger(__name__)

LARGE = 4 << 20
MANY = 1_000
"""Bytes and rows of batches that are made into one; of a large tally, more bytes."""
_FAST = 1  # of zlib's levels
_GIVEN_UP = "given up"  # in place of a token
# Made once: to build a statement takes longer than to run it.
_NOW = sa.select(t.tallies.c.number, t.tallies.c.token).where(t.tallies.c.rollout_id == sa.bindparam("rollout"))
_BATCH = sa.insert(t.batches)


@dataclass
class _Held:
    tally: Tally
    number: int = 0
    token: str = ""
    bytes: int = 0
    rows: int = 0
    whole: int = 0


class Tallies:
    """The tallies that one process counts into. Thread-safe; calls are within the caller's transaction, which holds the rollout's row."""

    def __init__(self) -> None:
        self._held: dict[str, _Held] = {}
        self._lock = threading.Lock()

    def add(self, c: sa.Connection, rules: Rules, batch: Batch) -> None:
        """Count a batch, and look if it is time."""
        with self._lock:
            try:
                self._add(c, rules, batch)
            except (sa.exc.SQLAlchemyError, OSError, MemoryError):
                raise  # nothing is wrong with the tally: it is counted later
            except Exception as problem:
                log.exception("the tally of rollout %s cannot be counted", rules.id)
                self._give_up(c, rules.id, problem)

    def _add(self, c: sa.Connection, rules: Rules, batch: Batch) -> None:
        with self._changing(c, rules) as held:
            if held is None:
                return
            held.tally.add(batch)
            if held.tally.due:
                held.tally.look()
                batch.looked = True
            data = batch.pack()
            held.number += 1
            held.token = uuid7()
            held.bytes += len(data)
            held.rows += 1
            row = {"rollout_id": rules.id, "number": held.number, "token": held.token}
            c.execute(_BATCH, {**row, "whole": False, "data": data})
            if held.rows >= MANY or held.bytes > max(LARGE, held.whole // 2):
                self._fold(c, rules.id, held)
            told = msgspec.json.encode(held.tally.told()).decode()
            upsert(c, t.tallies, [{**row, "told": told}], key=["rollout_id"], update=["number", "token", "told"])

    def _give_up(self, c: sa.Connection, rollout: str, problem: Exception) -> None:
        why = str(problem) if isinstance(problem, DrivetrainError) else f"It cannot be counted ({type(problem).__name__}: see the log)."
        tallied = msgspec.structs.replace(told(c, rollout), problem=why)
        row = {"rollout_id": rollout, "number": 0, "token": _GIVEN_UP, "told": msgspec.json.encode(tallied).decode()}
        upsert(c, t.tallies, [row], key=["rollout_id"], update=["token", "told"])

    def keep(self, rollouts: Collection[str]) -> None:
        """Let go of all others: nobody counts for them any more."""
        with self._lock:
            self._held = {rollout: held for rollout, held in self._held.items() if rollout in rollouts}

    @contextmanager
    def _changing(self, c: sa.Connection, rules: Rules) -> Iterator[_Held | None]:
        try:
            yield self._current(c, rules)
        except BaseException:
            self._held.pop(rules.id, None)  # half changed
            raise

    def _current(self, c: sa.Connection, rules: Rules) -> _Held | None:
        """The tally as it is now; None if it was given up."""
        now = c.execute(_NOW, {"rollout": rules.id}).one_or_none()
        number, token = (now.number, now.token) if now is not None else (0, "")
        if token == _GIVEN_UP:
            return None
        held = self._held.get(rules.id)
        if held is None or (held.token != token and not self._catch_up(c, rules, held)):
            held = _Held(Tally(rules.slots, rules.shares))
            self._read(c, rules, held)
        held.tally.shares = rules.shares
        assert (held.number, held.token) == (number, token), "a tally and its batches belong together"
        self._held[rules.id] = held
        return held

    def _catch_up(self, c: sa.Connection, rules: Rules, held: _Held) -> bool:
        """Add what others have counted since; False if what is held was never committed, or is too old for that."""
        if not held.number:
            return False
        of = t.batches.c.rollout_id == rules.id, t.batches.c.number == held.number, t.batches.c.token == held.token
        if c.execute(sa.select(t.batches.c.number).where(*of).limit(1)).first() is None:
            return False
        held.tally.shares = rules.shares
        self._replay(c, rules.id, held)
        return True

    def _read(self, c: sa.Connection, rules: Rules, held: _Held) -> None:
        mine = t.batches.c.rollout_id == rules.id, t.batches.c.whole
        whole = c.execute(sa.select(t.batches).where(*mine).order_by(t.batches.c.number.desc()).limit(1)).one_or_none()
        if whole is not None:
            held.tally.unpack(zlib.decompress(whole.data))
            held.number, held.token, held.whole = whole.number, whole.token, len(whole.data)
        self._replay(c, rules.id, held)

    def _replay(self, c: sa.Connection, rollout: str, held: _Held) -> None:
        later = t.batches.c.rollout_id == rollout, ~t.batches.c.whole, t.batches.c.number > held.number
        for row in c.execute(sa.select(t.batches).where(*later).order_by(t.batches.c.number)):
            held.tally.add(Batch.unpack(row.data))
            held.number, held.token = row.number, row.token
            held.bytes += len(row.data)
            held.rows += 1

    def _fold(self, c: sa.Connection, rollout: str, held: _Held) -> None:
        """Write the whole tally down in place of the batches that made it."""
        data = zlib.compress(held.tally.pack(), _FAST)
        c.execute(sa.delete(t.batches).where(t.batches.c.rollout_id == rollout))
        row = {"rollout_id": rollout, "number": held.number, "token": held.token, "whole": True}
        c.execute(_BATCH, {**row, "data": data})
        held.bytes = held.rows = 0
        held.whole = len(data)


def told(c: sa.Connection, rollout: str) -> Tallied:
    """What was counted of a rollout, as it was last written down."""
    text = c.scalar(sa.select(t.tallies.c.told).where(t.tallies.c.rollout_id == rollout))
    return msgspec.json.decode(text, type=Tallied) if text is not None else Tallied()
