"""Hints in messages name what the verb at hand has: keys of its config, or its own options."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

KEY = re.compile(r"\{([a-z]+(?:\.[a-z_]+)+)\}")


ALL = "*"


class Sets(NamedTuple):
    """In the annotation of an option: the key of a config that it stands for.

    Attributes
    ----------
    key
        ``section.key``; `ALL`: the option is a config, or what it sets is that of another verb's.
    whose
        What stands before each of those: the verb whose config has them.
    """

    key: str
    whose: str = ""


class _Settable(NamedTuple):
    options: Mapping[str, str]
    others: str | None


_settable: ContextVar[_Settable] = ContextVar("settable")


@contextmanager
def settable(options: Mapping[str, str], others: str | None = None) -> Iterator[None]:
    """What can be set meanwhile; outside, all keys of a config.

    Parameters
    ----------
    options
        How keys are written that have an option: ``{"data.keys.energy": "--energy-key"}``.
    others
        What stands before any other key (the verb whose config has them); None: there are none.
    """
    token = _settable.set(_Settable(options, others))
    try:
        yield
    finally:
        _settable.reset(token)


def hint(text: str, instead: str = "") -> str:
    """What a message may say of ``{section.key}`` to the user of the verb at hand.

    Parameters
    ----------
    text
        Clauses parted by ``"; "``; those that name a key which cannot be set are left out.
    instead
        What to say where none is left.
    """
    options, others = _settable.get(_Settable({}, ""))
    clauses = [
        clause
        for clause in text.split("; ")
        if others is not None or all(key in options for key in KEY.findall(clause))
    ]
    return KEY.sub(
        lambda match: options.get(match[1]) or f"{others}{match[1]}", "; ".join(clauses) or instead
    )
