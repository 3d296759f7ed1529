"""The checks of `invoke health`, one module for each subject; each yields findings and changes nothing."""
