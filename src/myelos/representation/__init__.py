"""Features of a frozen network: embeddings of cells, their neighbours, and what simple classifiers get from them."""
