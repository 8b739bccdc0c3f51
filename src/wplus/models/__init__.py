"""Networks only: plain typed constructors, no training, no files."""
