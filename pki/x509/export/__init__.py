"""What a person installs on a device: an identity or a policy made into the bytes that each system takes. No files, no clock."""
