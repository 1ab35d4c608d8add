"""The classifier, its checkpoints in and out, and conversion from dense to efficient attention."""
