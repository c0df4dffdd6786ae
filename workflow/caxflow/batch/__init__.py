"""Batch systems: how jobs get there, and why they ended."""
