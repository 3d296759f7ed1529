"""The longest lifetimes that a root ceremony signs."""

from __future__ import annotations

from datetime import timedelta

ROOT_LIMIT = timedelta(days=25 * 365)  # a root
PRESIGNED_CRL_LIMIT = timedelta(days=3 * 365)  # a pre-signed CRL
