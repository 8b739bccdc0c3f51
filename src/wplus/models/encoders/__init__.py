"""Encoders: images -> ws of a generator. All implement `Encoder`, the only interface training and inversion rely on."""
