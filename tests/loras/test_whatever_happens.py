"""Uploads, versions, runs, deletes, evictions, crashes and tampering, in any order.

Hypothesis chooses 40 steps at a time; HYPOTHESIS_EXAMPLES says how often, for thousands of them.
"""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from databases import migrated_file
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from lived_in_library import LIMIT, PEOPLE, LivedInLibrary

NAMES = ("one", "two", "three")
who = st.sampled_from(PEOPLE)
name = st.sampled_from(NAMES)
number = st.integers(0, 5)


class WhateverHappens(RuleBasedStateMachine):
    """The steps, and what holds after each."""

    template: Path

    @initialize()
    def begin(self) -> None:
        self.place = Path(tempfile.mkdtemp())
        database = shutil.copy(self.template, self.place)
        self.library = LivedInLibrary(self.place, Path(database))

    def teardown(self) -> None:
        if hasattr(self, "library"):
            self.library.close()
            shutil.rmtree(self.place)

    @rule(who=who, name=name, seed=number)
    def upload(self, who, name, seed):  # type: ignore[no-untyped-def]
        self.library.upload(who, name, seed)

    @rule(who=who, name=name)
    def delete(self, who, name):  # type: ignore[no-untyped-def]
        self.library.delete(who, name)

    @rule(who=who, name=name, version=st.integers(1, 4))
    def delete_version(self, who, name, version):  # type: ignore[no-untyped-def]
        self.library.delete_version(who, name, version)

    @rule(who=who, name=name, version=st.integers(1, 4))
    def restore(self, who, name, version):  # type: ignore[no-untyped-def]
        self.library.restore(who, name, version)

    @rule(who=who, names=st.sets(name, min_size=1))
    def accept(self, who, names):  # type: ignore[no-untyped-def]
        self.library.accept(who, names)

    @rule(choice=st.integers(0, 100))
    def prepare(self, choice):  # type: ignore[no-untyped-def]
        if runs := list(self.library.runs):
            self.library.prepare(runs[choice % len(runs)])

    @rule(choice=st.integers(0, 100))
    def finish(self, choice):  # type: ignore[no-untyped-def]
        if runs := list(self.library.runs):
            self.library.finish(runs[choice % len(runs)])

    @rule(seed=number, how=st.sampled_from(["flip", "truncate", "delete", "drop"]))
    def tamper(self, seed, how):  # type: ignore[no-untyped-def]
        self.library.tamper(seed, how)

    @rule(seed=number)
    def crash(self, seed):  # type: ignore[no-untyped-def]
        self.library.crash(seed)

    @rule(seed=number)
    def lose_an_object(self, seed):  # type: ignore[no-untyped-def]
        self.library.lose(seed)

    @rule()
    def sweep(self) -> None:
        self.library.sweep()

    @rule()
    def scan(self) -> None:
        self.library.scan()

    @invariant()
    def no_listed_file_is_wrong(self) -> None:
        assert self.library.wrong_files() == []

    @invariant()
    def what_a_prepared_run_needs_is_there(self) -> None:
        assert self.library.missing_files() == []

    @invariant()
    def the_disk_holds_no_more_than_it_may(self) -> None:
        assert self.library.bytes_on_disk() <= LIMIT

    @invariant()
    def every_row_has_its_object(self) -> None:
        assert self.library.rows_without_objects() == set()


@pytest.mark.timeout(600)
def test_whatever_happens_the_disk_and_the_store_are_right(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    class Here(WhateverHappens):
        template = migrated_file(tmp_path_factory.mktemp("template"))

    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=int(os.environ.get("HYPOTHESIS_EXAMPLES", "12")),
            stateful_step_count=40,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
