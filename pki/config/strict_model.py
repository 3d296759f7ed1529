"""The base of all parts of pki.yaml and of ceremony files: unknown keys are errors, values never change."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class StrictModel(BaseModel):
    """A section of pki.yaml: unknown keys are errors, and values are immutable."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
