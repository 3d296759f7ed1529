"""The offline side of a ceremony: commands on the machine with the vault. Uses no project and no ledger."""
