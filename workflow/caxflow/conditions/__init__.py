"""Under which conditions a run was taken: corrections, slow control, the settings frozen from them."""
