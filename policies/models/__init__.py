"""Where policies come from: `tiny`, made on the spot, or any causal language model of the transformers library."""
