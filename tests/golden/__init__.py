"""What a run writes, byte for byte: two projects under fixed keys, clock, serial numbers and salts."""
