"""Files and their bytes: digests, listings, manifests, permissions, what makes a ROOT file whole."""
