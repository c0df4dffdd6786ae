"""What is to be done here, and what the runs database is told of it."""
