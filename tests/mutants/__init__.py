"""Changes of one line in the program, and whether the tests notice them; `README.md` describes it."""
