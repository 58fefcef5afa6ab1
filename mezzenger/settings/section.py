"""What all sections of the settings have in common."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, ClassVar, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from mezzenger.errors import ConfigurationError
from mezzenger.settings.outline import KeyPath, outline_of
from mezzenger.settings.problems import problems_of
from mezzenger.settings.sources import Gathered


# Defaults are validated too, since a key that is set may contradict the default of another.
class Section(BaseModel, frozen=True, extra="forbid", validate_default=True):
    """Settings that cannot be changed, know all their keys, and report mistakes as ``ConfigurationError``."""

    _place: ClassVar[KeyPath] = ()
    """Where it stands in the settings."""

    # Type checkers must see the constructor that is made from the fields, not this one.
    if not TYPE_CHECKING:  # pragma: no branch  # always so when it runs

        def __init__(self, **values: object) -> None:
            try:
                super().__init__(**values)
            except ValidationError as error:
                outline = outline_of(type(self))
                given = Gathered(outline)
                given.add_arguments(values)
                origins = {(*self._place, *path): origin for path, origin in given.origins.items()}
                raise ConfigurationError(problems_of(error, outline, origins, self._place)) from None

        # Without this mark pydantic would call __init__ for each nested model as well. Its ConfigurationError would end
        # the validation there, and Settings.load could not report the other problems, nor where each was written.
        __init__.__pydantic_base_init__ = True

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_flags_as_numbers(cls, value: object, info: ValidationInfo) -> object:
        # YAML reads `yes` and `on` as true, which pydantic would take for 1.
        if isinstance(value, bool) and _is_number(cls.model_fields[info.field_name or ""].annotation):
            raise ValueError("must be a number")
        return value


def compared(other: str, fits: Callable[[float, float], bool], rule: str) -> AfterValidator:
    """Compare a field with one that is declared before it."""

    def compare(value: float, info: ValidationInfo) -> float:
        if other not in info.data or fits(value, info.data[other]):
            return value
        # A validator of the whole model could not tell which keys contradict each other.
        raise conflict(f"{rule} {other}", value, info.data[other], other)

    return AfterValidator(compare)


def conflict(rule: str, value: float, other_value: float, other: str | None = None) -> PydanticCustomError:
    """Return the error of a value that is fine by itself, but not beside another one.

    Args:
        other: The key of the other one, if it may be the one that was set while this is a default.
    """
    text = f"{rule} (got {value:g} and {other_value:g})"
    return PydanticCustomError("conflict", "{text}", {"text": text, "other": other})


def _is_number(annotation: object) -> bool:
    if get_origin(annotation) is Annotated:
        return _is_number(get_args(annotation)[0])
    return annotation is int or annotation is float or any(map(_is_number, get_args(annotation)))
