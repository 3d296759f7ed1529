"""Read the issuance records of a CA that was run elsewhere, for import into the ledger."""
