"""Makes the embedded model: corpus, tokenizer, training, evaluation and adapters."""
