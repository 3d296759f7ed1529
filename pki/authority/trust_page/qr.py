"""Draw a fingerprint as a QR code; the only module that uses segno."""

from __future__ import annotations

from functools import cache

import segno


@cache  # a run that changes the trust page renders it three times
def svg(text: str) -> str:
    """Return an inline SVG of a text in capitals, digits and colons, with its quiet zone and a title."""
    code = segno.make(text, error="l", micro=False, boost_error=False)
    return str(code.svg_inline(omitsize=True, border=4, svgclass=None, lineclass=None, title="QR code"))
