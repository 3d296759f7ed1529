"""Keys, certificates and CRLs in memory: no files of a project, no clock."""
