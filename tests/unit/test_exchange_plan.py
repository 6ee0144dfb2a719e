"""Three ways: whatever three states there are, a plan loses nothing, and after it there is nothing more to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from mlops_env.three_way import HISTORY, Plan, make_plan, supposed_base

if TYPE_CHECKING:
    from collections.abc import Mapping

States = dict[str, str]

NAMES = ("a", "b/c", ".mlops-env/runs/1/out")
states = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(("1", "2", "3")))


def carried_out(plan: Plan, source: States, target: States, *, force: bool = False) -> tuple[States, States]:
    """The target and the base after the plan."""
    target, base = dict(target), dict(plan.base)
    for name in plan.delete:
        del target[name]
    for name in (*plan.send, *(plan.conflicts if force else ())):
        if name in plan.conflicts:
            target[f"{name}.orig"] = target[name]
        target[name] = base[name] = source[name]
    return target, base


@given(states, states, states)
def test_nothing_that_only_one_side_has_is_lost(base: States, source: States, target: States) -> None:
    after, _ = carried_out(make_plan(base, source, target), source, target, force=True)
    for name, version in target.items():
        if version != base.get(name) and version != source.get(name):
            assert version in (after.get(name), after.get(f"{name}.orig")), name


@given(states, states, states)
def test_without_force_what_the_target_changed_stays(base: States, source: States, target: States) -> None:
    after, _ = carried_out(make_plan(base, source, target), source, target)
    assert {name: after.get(name) for name in target if target[name] != base.get(name)} == {
        name: version for name, version in target.items() if version != base.get(name)
    }


@given(states, states, states)
def test_what_only_the_source_changed_arrives(base: States, source: States, target: States) -> None:
    after, _ = carried_out(make_plan(base, source, target), source, target)
    for name in {*base, *source, *target}:
        is_change = source.get(name) != base.get(name)
        if is_change and target.get(name) == base.get(name) and not (name not in source and name.startswith(HISTORY)):
            assert after.get(name) == source.get(name), name


@given(states, states, states)
def test_the_second_time_there_is_nothing_to_do(base: States, source: States, target: States) -> None:
    plan = make_plan(base, source, target)
    after, then = carried_out(plan, source, target)
    again = make_plan(then, source, after)
    assert (again.send, again.delete, set(again.conflicts)) == ((), (), set(plan.conflicts))
    assert again.left == plan.left
    assert again.base == then


@given(states, states, states)
def test_there_and_back_again_both_are_the_same(base: States, here: States, there: States) -> None:
    """But for what both changed, and for the results that one side deleted."""
    plan = make_plan(base, here, there)
    there, base = carried_out(plan, here, there)
    back = make_plan(base, there, here)
    here, base = carried_out(back, there, here)
    for name in NAMES:
        if name not in plan.conflicts and not name.startswith(HISTORY):
            assert here.get(name) == there.get(name) == base.get(name), name


@given(states, states)
def test_without_a_past_nothing_is_deleted(source: States, target: States) -> None:
    plan = make_plan({}, source, target)
    assert plan.delete == ()
    assert plan.conflicts.keys() == {n for n in source.keys() & target.keys() if source[n] != target[n]}


def test_a_change_outlives_a_deletion() -> None:
    assert make_plan({"a": "1"}, {}, {"a": "2"}) == Plan((), (), ("a",), {}, {"a": "1"})
    assert make_plan({"a": "1"}, {"a": "2"}, {}) == Plan(("a",), (), (), {}, {"a": "1"})


def test_a_deletion_is_carried_out_where_nothing_was_changed() -> None:
    assert make_plan({"a": "1"}, {}, {"a": "1"}) == Plan((), ("a",), (), {}, {})


def test_results_are_deleted_by_their_own_side_alone() -> None:
    name = ".mlops-env/mlflow/artifacts/1/model.pkl"
    assert make_plan({name: "1"}, {}, {name: "1"}).delete == ()


def test_a_file_that_becomes_a_folder_and_the_other_way_round() -> None:
    into_folder = make_plan({"a": "1"}, {"a/b": "2"}, {"a": "1", "a/b": "! a"})
    assert (into_folder.delete, into_folder.send, into_folder.conflicts) == (("a",), ("a/b",), {})
    into_file = make_plan({"a/b": "1"}, {"a": "2"}, {"a/b": "1", "a": "! a"})
    assert (into_file.delete, into_file.send, into_file.conflicts) == (("a/b",), ("a",), {})


def test_what_stands_in_the_way_and_is_not_ours_is_a_conflict_by_its_own_name() -> None:
    assert make_plan({}, {"a/b": "2"}, {"a/b": "! a"}).conflicts == {"a/b": "a"}
    assert make_plan({}, {"a": "2"}, {"a": "! a"}).conflicts == {"a": "a"}


def test_what_was_there_and_has_something_else_in_its_place_is_deleted() -> None:
    assert make_plan({"a/b": "1"}, {"a": "2", "a/b": "! a"}, {"a/b": "1", "a": "! a"}).delete == ("a/b",)


def test_what_we_generated_is_nobodys_change() -> None:
    def supposed(here: str, there: str, made_here: Mapping[str, str], made_there: Mapping[str, str]) -> States:
        return supposed_base({}, {"a": here}, {"a": there}, made_here, made_there)

    assert supposed("old", "mine", {"a": "old"}, {"a": "new"}) == {"a": "old"}
    assert supposed("mine", "new+x", {"a": "old"}, {"a": "new"}) == {"a": "new+x"}
    assert supposed("mine", "yours", {"a": "old"}, {"a": "new"}) == {}
    assert supposed_base({"a": "0"}, {"a": "1"}, {"a": "2"}, {"a": "1"}, {}) == {"a": "0"}
