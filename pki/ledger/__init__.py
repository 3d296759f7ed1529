"""The record of every issued and revoked certificate, every CRL number and every decision: a hash chain in a database."""
