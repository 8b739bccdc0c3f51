"""Images -> latent codes. Every inverter is a function with the same signature (see `result.Inversion`)."""
