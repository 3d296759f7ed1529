"""The offline machine: what is done there, with the vault. It knows no project and no ledger."""
