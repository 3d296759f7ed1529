"""Root ceremonies: asked for here, held at an offline machine, accepted here."""

from __future__ import annotations
