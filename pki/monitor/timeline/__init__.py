"""The years to come: the inventory played forward, and the calendar that follows from it."""
