"""A GPT: what it is (model), how it learns (optimizer, schedule), from what (tokenizer, data), on what (system)."""
