"""The online side of a ceremony: requirements, request, kit, rehearsal and acceptance of the response."""
