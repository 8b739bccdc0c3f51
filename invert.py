"""`python invert.py ...` is `wplus invert ...`, without installing anything. See configs/invert.yaml."""

from wplus.commands.invert import invert

if __name__ == "__main__":
    invert()
