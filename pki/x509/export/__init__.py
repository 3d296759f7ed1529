"""Convert an identity (key, certificate, roots) to the formats that devices and browsers install. No files, no clock."""
