"""Whatever a section is given, what it dumps reads back as the same section."""

import importlib
import pkgutil
from collections.abc import Iterator
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic.fields import FieldInfo

import tlpot
from tlpot.config.run import WholeRun
from tlpot.config.sections import Section, parse_section
from tlpot.errors import TlpotError

for module in pkgutil.walk_packages(tlpot.__path__, "tlpot."):
    if "__main__" not in module.name and ".bundled" not in module.name:
        importlib.import_module(module.name)


def below(section: type[Section]) -> Iterator[type[Section]]:
    for kind in section.__subclasses__():
        yield kind
        yield from below(kind)


SECTIONS = {section for section in below(Section) if section.__module__.startswith("tlpot.")}
SECTIONS -= {WholeRun}  # stands for those of `Config` and its like
WORDS = ["a.xyz", "007", "1e5", "null", "~", "off", "no", "2026-01-01", "1:30", "", " x ", "a: b"]
WORDS += ["# c", "*", "&a", "[1", "two\nlines", "Köln ≤ 5 Å", "'", '"', "\\n", "0x1f", ".5", "-"]
TEXT = st.sampled_from(WORDS) | st.text(max_size=6)
PLAIN = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | TEXT
ANY = PLAIN | st.lists(PLAIN, max_size=2) | st.dictionaries(TEXT, PLAIN, max_size=2)
SIMPLE = {str: TEXT, bool: st.booleans(), type(None): st.none(), Any: ANY}


def numbers(kind: type, bounds: dict[str, float]) -> st.SearchStrategy[float]:
    low, high = (bounds.get("ge", bounds.get("gt"))), (bounds.get("le", bounds.get("lt")))
    if kind is int:
        return st.integers(
            low and int(low) + ("gt" in bounds), 10**6 if high is None else int(high)
        )
    outer = {"exclude_min": "gt" in bounds, "exclude_max": "lt" in bounds}
    return st.floats(low, high, allow_nan=False, allow_infinity=False, **outer)


def of(kind: Any, bounds: dict[str, float]) -> st.SearchStrategy[Any]:
    """What a field of this annotation may be given in YAML."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind in SIMPLE:
        return SIMPLE[kind]
    if kind in (int, float):
        return numbers(kind, bounds)
    if origin is Literal:
        return st.sampled_from(inner)
    if origin in (Union, UnionType):
        return st.one_of(*[of(each, bounds) for each in inner])
    if origin is list:
        return st.lists(of(inner[0], {}), min_size=1, max_size=2)
    if origin is tuple:
        return st.tuples(*[of(each, {}) for each in inner]).map(list)
    if origin is dict:
        return st.dictionaries(TEXT, of(inner[1], {}), max_size=2)
    return given_fields(kind)


def of_field(field: FieldInfo) -> st.SearchStrategy[Any]:
    bounds = {
        name: getattr(note, name)
        for note in field.metadata
        for name in ("gt", "ge", "lt", "le")
        if hasattr(note, name)
    }
    return of(field.annotation, bounds)


@st.composite
def given_fields(draw: st.DrawFn, section: type[Section]) -> dict[str, Any]:
    """The fields that a section must be given, and a few others."""
    fields = section.model_fields
    needed = [name for name, field in fields.items() if field.is_required()]
    more = draw(st.lists(st.sampled_from(sorted(fields)), max_size=3))
    names = dict.fromkeys([*needed, *more])
    return {fields[name].alias or name: draw(of_field(fields[name])) for name in names}


@pytest.mark.parametrize("section", sorted(SECTIONS, key=str), ids=lambda section: section.__name__)
def test_what_is_dumped_reads_back_as_the_same(section):
    @settings(suppress_health_check=list(HealthCheck))
    @given(given_fields(section))
    def check(values):
        try:
            first = parse_section(section, values, "given")
        except TlpotError:
            assume(False)
        text = first.dump()
        again = parse_section(section, yaml.safe_load(text), "dumped")
        assert again == first
        assert again.dump() == text

    check()


def test_every_section_is_tried():
    assert {"Config", "PowderConfig", "PropertyConfig", "Sweep", "Dynamics"} <= {
        section.__name__ for section in SECTIONS
    }
