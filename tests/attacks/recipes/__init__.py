"""One malicious recipe a file: what it does in a sentence, what must come of it, and the weakness it would need."""
