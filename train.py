"""`python train.py ...` is `wplus train ...`, without installing anything. See configs/train.yaml."""

from wplus.commands.train import train

if __name__ == "__main__":
    train()
