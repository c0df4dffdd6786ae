"""The stages of a run's life, one function each; a rule's script calls one of them with a `Job`."""
