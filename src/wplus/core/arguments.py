"""Parsers of command lines that refuse in one line."""

import argparse
from typing import NoReturn


class OneLineParser(argparse.ArgumentParser):
    """As argparse's, without the usage in front of what is wrong."""

    def error(self, message: str) -> NoReturn:
        """Exit with status 2."""
        self.exit(2, f"{self.prog}: {message}; see --help.\n")
