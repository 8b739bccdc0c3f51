"""How good a walk is: small functions `metric(walk, judges) -> dict[str, float]`, each one aspect."""
