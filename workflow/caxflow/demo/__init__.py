"""A whole experiment on one machine: SSH sites, runs database, simulated runs; for demo and tests."""
