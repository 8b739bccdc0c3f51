"""Training of generators and encoders: modules, their clock, hyper-parameters, checkpoints."""
