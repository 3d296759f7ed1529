"""An internal certificate authority and mutual-TLS infrastructure that one `doit` keeps alive."""
