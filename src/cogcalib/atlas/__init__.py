"""The embedded world: facts, corpus, tiny pretrained model."""
