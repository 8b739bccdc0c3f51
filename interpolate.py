"""`python interpolate.py ...` is `wplus interpolate ...`, without installing anything. See configs/interpolate.yaml."""

from wplus.commands.interpolate import interpolate

if __name__ == "__main__":
    interpolate()
