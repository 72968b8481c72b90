"""Tables of key and value do what a dictionary for each owner does, on both databases."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivetrain.store import maps
from drivetrain.store.sql import Database

metadata = sa.MetaData()
owners = sa.Table("map_owners", metadata, sa.Column("id", sa.Integer, primary_key=True))
values = maps.key_values("map_values", metadata, "owner_id", "map_owners.id")

OWNERS = (1, 2, 3)
KEYS = st.text(alphabet="abÄ%_'", min_size=1, max_size=3)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "keep", "drop"]),
        st.sampled_from(OWNERS),
        st.dictionaries(KEYS, st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=5), max_size=4),
    ),
    max_size=8,
)


@pytest.fixture
def db(database: Database) -> Iterator[Database]:
    with database.write() as c:
        metadata.create_all(c)
        c.execute(owners.insert(), [{"id": one} for one in OWNERS])
    yield database


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
def test_they_are_dictionaries(db: Database, steps: list[tuple[str, int, dict[str, str]]]) -> None:
    model: dict[int, dict[str, str]] = {}
    with db.write() as c:
        c.execute(values.delete())
        for what, owner, given_ in steps:
            mine = model.setdefault(owner, {})
            if what == "drop":
                assert maps.drop(c, values, owner, *given_) == len(mine.keys() & given_.keys())
                model[owner] = {key: value for key, value in mine.items() if key not in given_}
            else:
                maps.put(c, values, owner, given_, keep=what == "keep")
                model[owner] = given_ | mine if what == "keep" else mine | given_
        assert maps.read(c, values, OWNERS) == {owner: mine for owner, mine in model.items() if mine}
        assert maps.read(c, values, [2]).keys() <= {2}


def test_values_go_with_their_owner_and_many_are_read_in_parts(db: Database) -> None:
    with db.write() as c:
        c.execute(owners.insert(), [{"id": one} for one in range(10, 1510)])
        for one in range(10, 1510):
            maps.put(c, values, one, {"number": str(one)})
        assert maps.read(c, values, range(10, 1510)) == {one: {"number": str(one)} for one in range(10, 1510)}
        c.execute(owners.delete().where(owners.c.id == 700))
        assert maps.read(c, values, [699, 700]) == {699: {"number": "699"}}
        assert maps.drop(c, values, 699) == 0
