"""A demo in network namespaces: VLANs, a firewall, real servers, and requests between them."""
