"""What happens to copies after they are made: evidence, quarantine, removal, moves."""
