"""One project at one moment: where its files are, its authorities and their keys, its secrets, its clock."""
