"""Files and their bytes: digests, listings, manifests, permissions."""
