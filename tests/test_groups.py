"""Tests that share a costly fixture run in one worker (marks in conftest.py)."""

from __future__ import annotations

import pytest


def test_xdist_keeps_the_tests_of_a_group_together(request: pytest.FixtureRequest) -> None:
    """It shares out by what it adds to a test's name.  With pytest 9.2 it does so no more, and nothing else says it:
    every test of a group would start servers and trainings of its own (pytest-xdist's issue 1386)."""
    if not request.config.getoption("loadgroup", False):
        pytest.skip("needs pytest-xdist's `--dist loadgroup`")
    grouped = [item for item in request.session.items if item.get_closest_marker("xdist_group")]
    assert [item.nodeid for item in grouped if "@" not in item.nodeid] == []
