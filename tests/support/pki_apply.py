"""What `pki-apply` is asked, word by word."""

from __future__ import annotations

COMMANDS = {"ok": "true", "fails": "echo it is broken >&2; exit 3", "hangs": "trap '' TERM; echo waiting; sleep 30"}
