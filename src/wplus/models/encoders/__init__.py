"""Encoders: images -> ws of a generator. All share `Encoder`, so that training and inversion know no other names."""
