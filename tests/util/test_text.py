"""Hints and messages that many errors share."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from scalecrafter._util.text import explain, near_names, near_or_all_names, setting_names


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")

    weight: float = 1.0


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    steps: int = Field(ge=1)
    inner: Inner | None = None
    many: tuple[Inner, ...] = ()

    @field_validator("steps")
    @classmethod
    def _not_seven(cls, value: int) -> int:
        if value == 7:
            raise ValueError("no seven")
        return value


def told(**values: object) -> str:
    with pytest.raises(ValidationError) as raised:
        Outer.model_validate(values)
    return explain(raised.value, setting_names(Outer))


def test_near_names_are_suggested_whatever_their_case() -> None:
    assert near_names("critter", ["Critters", "sdxl"]) == "did you mean 'Critters'?"
    assert near_names("eulr", ["euler", "euler-a", "lms"]) == "did you mean 'euler' or 'euler-a'?"
    assert near_names("xyz", ["euler"]) == ""
    assert near_or_all_names("xyz", ["a", "b"]) == "known: a, b"


def test_each_wrong_value_is_a_sentence() -> None:
    assert told() == "steps is missing"
    assert told(steps=0) == "steps is 0: input should be greater than or equal to 1"
    assert told(steps=7) == "steps: no seven"
    assert told(steps=0, inner={"weight": "x"}).count("; ") == 1


def test_an_unknown_setting_names_those_of_its_own_place() -> None:
    assert told(steps=1, stepz=1) == "there is no setting 'stepz'; did you mean 'steps'?"
    assert told(steps=1, inner={"speed": 1}) == "there is no setting 'inner.speed'; known: weight"
    assert told(steps=1, many=[{"weigth": 1}]) == "there is no setting 'many.0.weigth'; did you mean 'weight'?"
