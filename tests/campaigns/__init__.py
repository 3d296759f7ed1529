"""Campaigns: seeded streams of trials that look for faults for as long as they are given; `README.md` lists them."""
