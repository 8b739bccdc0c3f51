"""HTML reports about a run, a demo, a sweep or any folders of runs: one self-contained page, made from disk."""
