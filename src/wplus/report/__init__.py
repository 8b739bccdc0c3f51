"""One page about a run, a demo, a sweep or any folders of runs: self-contained, from disk, without a network."""
