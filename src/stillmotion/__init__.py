"""stillmotion: what stays and what moves. Importing this package does nothing observable."""

__version__ = "0.1.0"
