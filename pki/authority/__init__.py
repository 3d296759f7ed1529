"""One file a subject: why a certificate, a CRL or a bundle is out of date, and how it is made."""
