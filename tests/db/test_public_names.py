# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Every public name of `db` has a test in which it fails; results are values; one error tree.

`FAILURES` says which test that is, for functions, classes and the methods of the classes. The
table is held to the code from both sides: it has a line for each name that is public and none
besides, and the test named there uses the name, directly or by what it calls, and expects an error
with `pytest.raises`: one of that very class where the name is an error.
"""

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import FrozenInstanceError
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import forktex_core.db as public
from forktex_core.db import CursorPage, DBError, Health, Page, errors

HERE = Path(__file__).parent
ERRORS = [
    each
    for _, each in inspect.getmembers(errors, inspect.isclass)
    if issubclass(each, Exception) and each.__module__ == errors.__name__
]
# Caught, never raised by themselves (`test_a_root_catches_its_kind`).
ROOTS = {"DBError", "QueryError", "ConstraintError"}

FAILURES = {
    "AlreadyInitializedError": "engine_lifecycle.a_second_init_with_another_url_is_refused",
    "AuditMixin": "audit_mixin.an_author_that_is_no_key_is_refused",
    "BaseDBModel": "models.an_unknown_attribute_is_refused",
    "CheckError": "models.what_the_constraints_refuse",
    "ConfigurationError": "engine_lifecycle.a_url_that_cannot_work_is_refused_at_once",
    "CrossOrgError": "org_sessions.a_session_refuses_another_scope",
    "CursorError": "cursors.a_cursor_of_another_query",
    "CursorPage": "public_names.results_are_values",
    "Database": "engine_lifecycle.a_database_that_cannot_work_is_refused_at_once",
    "Database.close": "engine_lifecycle.a_closed_database_opens_no_session",
    "Database.healthcheck": "engine_lifecycle.a_closed_database_opens_no_session",
    "Database.session": "engine_lifecycle.a_closed_database_opens_no_session",
    "EngineOptions": "public_names.an_unknown_setting_is_refused",
    "EngineOptions.differing": "engine_lifecycle.a_second_init_with_other_settings_names_them",
    "ForeignKeyError": "models.what_the_constraints_refuse",
    "Health": "public_names.results_are_values",
    "InvalidValueError": "filters.values_that_do_not_fit",
    "MissingScopeError": "org_reads.the_same_read_without_a_scope_fails_closed",
    "MultipleFoundError": "repository.get_by",
    "NAMING_CONVENTION": "models.a_check_without_a_name_is_refused",
    "NotFoundError": "repository.get_of_nothing",
    "NotInitializedError": "engine_lifecycle.use_before_init_says_what_to_do",
    "NotNullError": "repository.create_refusals",
    "OrgScopedMixin": "org_inserts.a_new_row_without_a_scope_is_refused",
    "OrgScopedMixin.for_org": "org_sessions.a_filter_by_hand_takes_a_key_of_the_column",
    "OrgScopedMixin.in_scope": "org_sessions.a_filter_of_the_scope_needs_one_when_it_runs",
    "Page": "public_names.results_are_values",
    "Repository": "repository.a_repository_needs_a_model",
    "Repository.count": "repository.exists_and_count",
    "Repository.create": "repository.create_refusals",
    "Repository.create_many": "repository.create_many_is_all_or_none",
    "Repository.cursor_page": "pages.pages_that_cannot_be",
    "Repository.delete": "repository.delete",
    "Repository.exists": "repository.exists_and_count",
    "Repository.get": "repository.get_of_nothing",
    "Repository.get_by": "repository.get_by",
    "Repository.get_or_none": "repository.get_of_nothing",
    "Repository.list": "repository.list_sorts_and_limits",
    "Repository.page": "pages.pages_that_cannot_be",
    "Repository.update": "repository.update",
    "Repository.upsert": "repository.upsert_refusals",
    "RetriesExhaustedError": "retry_transaction.exhausted_attempts_say_so",
    "ScopeError": "org_sessions.a_scope_of_nothing_is_refused",
    "SoftDeleteMixin": "soft_delete.a_partial_index_frees_the_name",
    "SoftDeleteMixin.restore": "soft_delete.restoring_what_was_replaced_is_refused",
    "SoftDeleteMixin.soft_delete": "soft_delete.deleting_what_is_not_stored_is_refused",
    "StaleVersionError": "versioning.a_deletion_of_something_older_is_refused",
    "TimestampMixin": "models.a_base_without_eager_defaults_refuses_the_hidden_query",
    "UniqueError": "repository.create_refusals",
    "UnknownFieldError": "filters.unknown_names_are_answered_with_near_ones",
    "UnknownOperatorError": "filters.unknown_names_are_answered_with_near_ones",
    "UnreachableError": "engine_lifecycle.a_wrong_database_is_named",
    "UnscopedStatementError": "org_refusals.what_cannot_be_filtered_is_refused",
    "VersionedMixin": "versioning.of_two_changes_the_second_is_refused",
    "acting_as": "audit_mixin.an_author_that_is_no_key_is_refused",
    "close_engine": "engine_lifecycle.close_is_idempotent_and_allows_another_init",
    "current_actor": "audit_mixin.blocks_nest_and_end",
    "current_org": "org_sessions.no_organisation_is_in_scope_for_all_of_them",
    "drop_row_security_ddl": "row_security.a_table_without_org_id_is_refused",
    "get_database": "engine_lifecycle.use_before_init_says_what_to_do",
    "get_engine": "engine_lifecycle.use_before_init_says_what_to_do",
    "get_session": "engine_lifecycle.use_before_init_says_what_to_do",
    "healthcheck": "engine_lifecycle.use_before_init_says_what_to_do",
    "include_deleted": "soft_delete.the_block_ends_however_it_ends",
    "init_engine": "engine_lifecycle.a_setting_that_makes_no_sense_is_refused",
    "org_scope": "org_sessions.a_scope_of_nothing_is_refused",
    "retry_transaction": "retry_transaction.bad_arguments_are_refused",
    "row_security_ddl": "row_security.a_table_without_org_id_is_refused",
    "unscoped": "org_sessions.an_unscoped_session_needs_unscoped_at_each_use",
    "uuid7": "uuid7.a_number_that_does_not_fit_is_refused",
}


def _public_names() -> Iterator[str]:
    """All of `__all__`, and the methods of its classes that are written there."""
    for name in public.__all__:
        if name not in ROOTS:
            yield name
        members = vars(getattr(public, name)) if inspect.isclass(getattr(public, name)) else {}
        for member, value in members.items():
            function = getattr(value, "__func__", value)  # of a classmethod or a staticmethod
            if not member.startswith("_") and inspect.isfunction(function):
                yield f"{name}.{member}"


@cache
def _module(path: Path) -> dict[str, ast.AST]:
    """What a test file defines at its top, by name; imports from other test files followed."""
    found: dict[str, ast.AST] = {}
    for node in ast.parse(path.read_text()).body:
        match node:
            case ast.ImportFrom(module=str(module)) if module.startswith("tests.db."):
                found |= _module(HERE / f"{module.removeprefix('tests.db.')}.py")
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                found[node.name] = node
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                found[name] = node
    return found


def _reached(path: Path, test: str) -> list[ast.AST]:
    """The nodes of the test and of all that it reaches in the test files, fixtures included."""
    module, nodes = _module(path), []
    waiting, seen = [test], {test}
    while waiting:
        for node in ast.walk(module[waiting.pop()]):
            nodes.append(node)
            name = getattr(node, "id", getattr(node, "arg", None))
            if name in module and name not in seen:
                seen.add(name)
                waiting.append(name)
    return nodes


def _expected_errors(nodes: list[ast.AST]) -> Iterator[str]:
    """What the nodes hand to `pytest.raises`."""
    for node in nodes:
        match node:
            case ast.Call(func=ast.Attribute(attr="raises"), args=[expected, *_]):
                yield ast.unparse(expected)


def test_the_table_is_complete() -> None:
    """It has a line for every public name and for no other."""
    assert sorted(FAILURES) == sorted(_public_names())


@pytest.mark.parametrize("name", FAILURES)
def test_every_public_name_is_seen_failing(name: str) -> None:
    """The test that the table names exists, uses the name, and expects an error."""
    file, _, test = FAILURES[name].partition(".")
    nodes = _reached(HERE / f"test_{file}.py", f"test_{test}")
    last = name.rpartition(".")[2]
    used = {getattr(node, "id", getattr(node, "attr", None)) for node in nodes}
    if name == "uuid7":  # it can't fail; what it is made of can
        last = "compose"
    assert last in used
    expected = set(_expected_errors(nodes))
    assert expected
    if name.endswith("Error"):
        assert name in expected


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_every_error_is_public_and_drawn(error: type[Exception]) -> None:
    """It is public, of the one tree, and in the tree's drawing."""
    name = error.__name__
    assert getattr(public, name) is error
    assert issubclass(error, DBError)
    assert re.search(rf"^[\s│├└─]*{name}\b", str(errors.__doc__), re.MULTILINE)


@pytest.mark.parametrize(
    ("value", "attribute"),
    [
        (Page([], 0, 1, 10), "total"),
        (CursorPage([], None, None), "next"),
        (Health(True, 0.1, None, 0, 0), "ok"),
        (public.EngineOptions(), "pool_size"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_results_are_values(value: Any, attribute: str) -> None:
    """What was answered can't be changed afterwards."""
    with pytest.raises(FrozenInstanceError):
        setattr(value, attribute, 1)


@pytest.mark.parametrize(
    ("root", "below"),
    [
        (public.DBError, len(ERRORS) - 1),
        (public.ScopeError, 3),
        (public.QueryError, 4),
        (public.ConstraintError, 4),
        (public.ConfigurationError, 2),
    ],
)
def test_a_root_catches_its_kind(root: type[Exception], below: int) -> None:
    """Who wants to answer all refusals of one kind alike catches their root."""
    assert sum(issubclass(each, root) for each in ERRORS) == 1 + below


def test_an_unknown_setting_is_refused() -> None:
    """A misspelt setting is Python's error at the call."""
    with pytest.raises(TypeError, match="pool_sise"):
        public.EngineOptions(pool_sise=5)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="pool_sise"):
        public.init_engine("postgresql://localhost/x", pool_sise=5)  # type: ignore[call-arg]
