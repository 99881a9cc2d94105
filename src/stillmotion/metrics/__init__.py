"""Measures of frames and codes: pure functions, one file each."""
