"""Create, sign, read and check keys, certificates and CRLs in memory. Opens no file of a project, reads no clock."""
