"""Projects of earlier versions."""
