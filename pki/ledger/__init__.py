"""Every certificate issued and revoked, every CRL number, what people decided: a chain of hashes in a database."""
