"""One malicious message or answer a file: what it is in a sentence, how it is told, whether it got what it wanted, and
the rule without which it would."""
