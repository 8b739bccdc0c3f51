"""Images -> latent codes. Every way to invert is one function with one signature (see `result.Inversion`)."""
