"""What configs are made of: sections that refuse unknown keys, read from YAML."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Self, TypeVar, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

from tlpot.config.reading import dumped, read_override, read_yaml, trap
from tlpot.errors import TlpotError
from tlpot.files import expanded


class Needs:
    """What an option or a field of a config has no effect without.

    Stands in its annotation: ``Annotated[float, Needs(pattern=True)]``. One of the others that it
    names must be as it says; where several `Needs` stand, each of them must be met.

    Parameters
    ----------
    others
        ``True``: is given, or on. ``False``: is not. Otherwise one of these values, shell wildcards
        allowed; ``!vasp``: any but this one.
    """

    def __init__(self, **others: bool | str | tuple[str, ...]) -> None:
        self.others = {k: (v,) if isinstance(v, str) else v for k, v in others.items()}

    def lacking(
        self, values: Mapping[str, Any], say: Callable[[str, Any], str] = "{}: {}".format
    ) -> str | None:
        """``with …`` or ``without …`` what there is no effect; None: there is one.

        Parameters
        ----------
        values
            Of all options or fields, by name.
        say
            Words for a name and its value; for ``None`` those for the name alone, for ``False`` of
            something that is on by default those for turning it off.
        """
        if any(_meets(values.get(key), wanted) for key, wanted in self.others.items()):
            return None
        for key in self.others:
            value = values.get(key)
            if value or (value is False and say(key, False) != say(key, None)):
                return f"with {say(key, value)}"
        wanted = [
            say(key, None if isinstance(value, bool) else value)
            for key, values_wanted in self.others.items()
            for value in (values_wanted if isinstance(values_wanted, tuple) else (values_wanted,))
        ]
        return f"without {' or '.join(wanted)}"


def _meets(value: Any, wanted: bool | tuple[str, ...]) -> bool:
    if isinstance(wanted, bool):
        return bool(value) is wanted
    return any(
        str(value) != pattern[1:] if pattern[0] == "!" else fnmatchcase(str(value), pattern)
        for pattern in wanted
    )


EXPANDED = AfterValidator(lambda value: expanded(value) if isinstance(value, str) else value)
"""In the annotation of a field that names one file or folder: ``~`` and ``$VARIABLES`` count."""
STARTED = Needs(scheduler=("local", "*.yaml", "*.yml"))
"""What a number of workers needs: a scheduler at an address has its own."""
NEW = Needs(base=False)
"""What sizes of a network need: a base keeps its network."""


def no_effect(what: str, lacking: str) -> str:
    """The one sentence that refuses an option or a field without an effect."""
    mend = "drop one of them"
    if lacking.startswith("without "):
        mend = f"add {lacking.removeprefix('without ')}, or drop {what}"
    return f"{what} has no effect {lacking}; {mend}"


class Section(BaseModel):
    """Common behaviour: frozen; refused are unknown keys, NaN, and fields that would do nothing."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _empty_section_is_default(cls, values: Any) -> Any:
        return {} if values is None else values

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_value_is_a_number(cls, value: Any, field: ValidationInfo) -> Any:
        annotation = cls.model_fields[str(field.field_name)].annotation
        kinds = {annotation, *get_args(annotation)}
        if isinstance(value, bool) and kinds & {int, float} and bool not in kinds:
            raise ValueError(f"write a number, not {str(value).lower()}")
        return value

    @model_validator(mode="after")
    def _every_field_has_an_effect(self) -> Self:
        """Given is what differs from its default: a template names every field."""
        self.require_effect(self.changed())
        return self

    def __repr_args__(self) -> Iterator[tuple[str, Any]]:
        """Of its repr, which leaves out what has its default."""
        return ((name, vars(self)[name]) for name in self.changed())

    def changed(self) -> list[str]:
        """Fields whose value is not what they have when they are left out."""
        fields = type(self).model_fields.items()
        return [k for k, field in fields if vars(self)[k] != self.left_out(k, field)]

    def left_out(self, name: str, field: FieldInfo) -> Any:
        """Value that a field has when it is left out."""
        return field.get_default(call_default_factory=True)

    def require_effect(self, given: Iterable[str], place: str = "") -> None:
        """Refuse fields that are `given` and need others (`Needs`) to do anything.

        Raises
        ------
        TlpotError
            Naming the first, with its `place` before it.
        """
        fields, values = type(self).model_fields, vars(self)
        for name in given:
            for needs in fields[name].metadata if values[name] is not None else ():
                if isinstance(needs, Needs) and (lacking := needs.lacking(values, self._say)):
                    raise TlpotError(no_effect(place + (fields[name].alias or name), lacking))

    def _say(self, name: str, value: Any) -> str:
        field = type(self).model_fields[name]
        key = field.alias or name
        if value is None or isinstance(value, Section) or (value is False and not field.default):
            return key
        return f"{key}: {str(value).lower() if isinstance(value, bool) else value}"

    def dump(self) -> str:
        """As YAML, with everything that was left out, but for what would have no effect."""
        return dumped(_effective(self))


def _effective(section: Section) -> dict[str, Any]:
    plain, values = section.model_dump(by_alias=True, mode="json"), vars(section)
    for name, field in type(section).model_fields.items():
        key, notes = field.alias or name, field.metadata
        if any(isinstance(needs, Needs) and needs.lacking(values) for needs in notes):
            del plain[key]
        elif isinstance(values[name], Section) and isinstance(plain[key], dict):
            plain[key] = _effective(values[name])
    return plain


class WithFiles(Section):
    """A section with ``files``; a single name is a list of one."""

    files: list[str]

    @model_validator(mode="before")
    @classmethod
    def _one_file_is_a_list(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("files"), str):
            values = {**values, "files": [values["files"]]}
        return values

    @model_validator(mode="after")
    def _names_files(self) -> Self:
        if not self.files:
            raise ValueError("files is empty: name at least one file")
        return self


AnySection = TypeVar("AnySection", bound=Section)


def load_section(
    section: type[AnySection], path: str | Path, overrides: list[str] | None = None
) -> AnySection:
    """Read a YAML file as `section` and apply ``section.key=value`` overrides.

    Raises
    ------
    TlpotError
        Naming the file, the key and the nearest valid key or the expected type.
    """
    values = read_yaml(path, "config", "`tlpot init` writes one to start from.")
    for override in overrides or []:
        if isinstance(values, dict):
            set_key(values, *read_override(override), f"override '{override}'")
    return parse_whole(section, values, str(path))


def as_section(
    section: type[AnySection], values: AnySection | Mapping[str, Any] | str | Path
) -> AnySection:
    """A `section` as it is, from a nested dict or from a YAML file; errors as `load_section`."""
    if isinstance(values, section):
        return values
    if isinstance(values, str | Path):
        return load_section(section, values)
    return parse_whole(section, dict(values), "config")


def parse_whole(section: type[AnySection], values: Any, origin: str) -> AnySection:
    """Validate a nested dict that came from `origin`; errors as in `load_section`."""
    if not isinstance(values, dict):
        seen = f", found '{values.splitlines()[0][:60]}'" if isinstance(values, str) else ""
        raise TlpotError(
            f"{origin}: expected sections ({', '.join(section.model_fields)}){seen}; write "
            "'key: value', a line each"
        )
    return parse_section(section, values, f"{origin} is not a valid config")


def parse_section(section: type[AnySection], values: dict[str, Any], failure: str) -> AnySection:
    """Validate one section; the error says `failure` and what is wrong with each key."""
    try:
        return section.model_validate(values)
    except ValidationError as error:
        lines = [_explain(problem, section) for problem in error.errors()]
        raise TlpotError(f"{failure}:\n  " + "\n  ".join(lines)) from None


def set_key(values: dict[str, Any], key: str, value: Any, origin: str) -> None:
    """Set ``section.key`` of a nested dict, in place; errors name `origin`."""
    *sections, last = key.split(".")
    for section in sections:
        if values.get(section) is None:
            values[section] = {}
        values = values[section]
        if not isinstance(values, dict):
            raise TlpotError(f"{origin}: '{section}' is not a section")
    values[last] = value


def _explain(problem: Any, model: type[BaseModel]) -> str:
    """One of pydantic's complaints about a `model`, with the nearest valid key or YAML's trap."""
    location = [str(part) for part in problem["loc"]]
    key, mend = ".".join(location), trap(problem)
    if problem["type"] == "extra_forbidden":
        if mend:
            return f"{key}: unknown key; {mend}"
        return unknown_key(key, location[-1], _keys_at(model, location[:-1]))
    if problem["type"] == "missing":
        return f"{key}: required, but not given" + (f"; {mend}" if mend else "")
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "model_type":
        message = "a section, with keys of its own below it"
    if mend:
        seen = "" if isinstance(problem["input"], Mapping) else f" (got {problem['input']!r})"
        return f"{key}: {message}{seen}; {mend}"
    if isinstance(problem["input"], Mapping):  # a whole section: what is wrong is in the message
        return f"{key}: {message}" if key else message
    return f"{key or 'config'}: {message} (got {problem['input']!r})"


def unknown_key(key: str, name: str, keys: Sequence[str]) -> str:
    """What refuses a key: its `name` is none of the `keys`."""
    close = difflib.get_close_matches(name, keys, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'?" if close else f"known keys: {', '.join(keys)}"
    return f"{key}: unknown key; {hint}"


def _keys_at(section: type[BaseModel], location: list[str]) -> list[str]:
    parts = iter(location)
    for part in parts:
        annotation = section.model_fields[part].annotation
        kinds = [annotation, *get_args(annotation)]  # a section, or a section or None, or a dict
        section = next(k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel))
        if get_origin(annotation) in (dict, list):
            next(parts)
    return [field.alias or name for name, field in section.model_fields.items()]
