"""The status page: what it says, and when it is drawn again."""
