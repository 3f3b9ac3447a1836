"""What ``pipeline`` offers to Python: the verbs of the commands, on typed nouns, without their words and files."""
