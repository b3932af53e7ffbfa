# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The bounds that a service sets on what end users define, write and ask."""

from dataclasses import dataclass

from forktex_core.data.errors import ConfigurationError


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How large definitions, rows and queries may be; times are in seconds.

    Raises `ConfigurationError` for a bound that is not above 0.
    """

    registers_per_tenant: int = 500
    fields_per_register: int = 200
    row_bytes: int = 256 * 1024
    rows_per_call: int = 10_000
    query_conditions: int = 200
    query_depth: int = 16
    values_per_condition: int = 1_000
    page_size: int = 1_000
    capped_count: int = 10_000
    query_timeout: float = 10.0
    shared_rows: int = 200_000
    dedicated_tables: int = 1_000
    regex_length: int = 200

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise ConfigurationError(f"the limit {name} is a number above 0, not {value!r}")
