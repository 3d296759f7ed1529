"""An internal certificate authority and mutual-TLS infrastructure that one `doit` keeps alive."""

__version__ = "0.2.0"
