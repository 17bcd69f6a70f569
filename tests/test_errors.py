"""How a name that there is not is answered."""

from __future__ import annotations

import string

from hypothesis import given
from hypothesis import strategies as st

from mapper.errors import LISTED, LISTED_BESIDE_NEAR, UnknownName, near_names, one_of

WORD = st.text(string.ascii_letters, min_size=1, max_size=8)
FEW = ["compact", "scatter", "per-group"]


def test_near_names_come_first_and_few_are_listed() -> None:
    assert one_of("scater", FEW) == "Did you mean scatter? One of compact, scatter, per-group."
    assert one_of("SCATTER", FEW).startswith("Did you mean scatter?")
    assert one_of("x", FEW) == "One of compact, scatter, per-group."
    assert one_of("x", []) == "There is none."


def test_many_names_are_not_listed_beside_a_near_one() -> None:
    many = [f"linear_{i}" for i in range(LISTED_BESIDE_NEAR + 1)]
    assert one_of("liner_0", many).startswith("Did you mean linear_0") and "One of" not in one_of("liner_0", many)
    assert one_of("conv", many) == f"One of {', '.join(many)}."


def test_of_very_many_those_are_shown_that_have_the_name_in_them() -> None:
    many = [*(f"blocks.{i}.attention.projection" for i in range(LISTED)), "head.classifier.bias"]
    assert one_of("bias", many) == f"One of {LISTED + 1}, such as head.classifier.bias."
    assert one_of("zzz", many).startswith(f"One of {LISTED + 1}, such as blocks.0.attention.projection, blocks.1.")


def test_an_unknown_name_is_worded_as_everything_else() -> None:
    error = UnknownName("machine", "sg2024", ["sg2042", "host"])
    assert error.near == ["sg2042"]
    assert str(error) == f"machine: no machine is called 'sg2024'\n{one_of('sg2024', ['sg2042', 'host'])}"


@given(WORD, st.lists(WORD, unique_by=str.lower, max_size=60))
def test_near_names_are_known_ones_as_they_are_spelt(name: str, known: list[str]) -> None:
    near = near_names(name, known)
    assert len(near) <= 2 and set(near) <= set(known)
    if name.lower() in map(str.lower, known):
        assert near[0].lower() == name.lower()
    assert one_of(name, known).endswith((".", "?"))
