"""A finished run as pictures and numbers: one self-contained page, three animations, a table."""
