"""The books of a CA that was run elsewhere, read and made ready for the ledger."""
