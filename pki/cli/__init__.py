"""The commands of `./run invoke`: one module for each group, and the program that starts them."""
