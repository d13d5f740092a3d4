"""The server keeps to its own OpenAPI description, as schemathesis sees it: a few dozen examples of each operation.

More of them, by hand: `schemathesis run URL/openapi.json --exclude-checks positive_data_acceptance`.
"""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.support.running_server import Running

EXAMPLES = 12
OPERATIONS = 20


@pytest.fixture(scope="session")
def operations(shared: Running) -> list[Any]:
    description = schemathesis.openapi.from_url(f"{shared.url}/openapi.json")
    return [result.ok() for result in description.get_all_operations()]


@pytest.mark.parametrize("index", range(OPERATIONS))
def test_every_answer_is_one_that_the_description_knows(operations: list[Any], index: int) -> None:
    operation = operations[index]
    # Any text is a good path; and schemathesis cannot spoil files (of multipart bodies test_robustness.py does).
    spoilt = any(body.media_type == "application/json" for body in operation.body)
    modes = [GenerationMode.POSITIVE, *([GenerationMode.NEGATIVE] if spoilt else [])]
    for mode in modes:

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def check(case: schemathesis.Case) -> None:
            # What no description can say (a strength needs an image, say) is refused, with the reason.
            case.call_and_validate(excluded_checks=[positive_data_acceptance], timeout=30)

        check()


def test_every_operation_is_looked_at(operations: list[Any]) -> None:
    assert len(operations) == OPERATIONS
