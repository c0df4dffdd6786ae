"""Processors: how they are called, what they must leave behind."""
