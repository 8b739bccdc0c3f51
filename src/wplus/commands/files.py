"""Commands that convert files: packing images, converting checkpoints, and the report about a folder."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from wplus.commands.entry import entry_point, program
from wplus.errors import OneLineParser

CONVERT = """\
IN is any file or folder that `wplus.load` reads; the extension of OUT selects the format:

    .safetensors  wplus file, with all networks or only some (--roles), with some in half precision (--half)
    FOLDER/       config.json, model.safetensors and a model card, for the Hugging Face Hub
    .onnx         the generator, or only its synthesis network (--part), as a graph that runs without Python
    .pt           a torch file: generator and discriminator in rosinality's or NVlabs' layout, or generator and
                  encoder in e4e's layout, which pSp and ReStyle share (--layout)

Pickles that need NVlabs' source code are not written.
"""


@entry_point(has_folder=False)
def report(cfg: dict[str, Any]) -> None:
    """Write one page about a run, a sweep, or folders with several; prints its path."""
    from wplus.report.page import write_report

    print(write_report(cfg["folder"], cfg["output"]))


@program
def prepare(arguments: Sequence[str]) -> int:
    """Pack a folder or zip of images into a zip in the format of StyleGAN's code."""
    from wplus.data.prepare import main

    return main(arguments)


@program
def convert(arguments: Sequence[str]) -> int:
    """Convert checkpoints between projects, to ONNX, or into a folder with a model card."""
    parser = OneLineParser(
        prog="wplus convert", description=CONVERT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", metavar="IN", help="NVlabs .pkl, rosinality or e4e .pt, wplus .safetensors or folder")
    parser.add_argument("target", metavar="OUT", help="name of the new file (.safetensors, .onnx, .pt), or FOLDER/")
    parser.add_argument("--layout", default="rosinality", help="layout of a .pt: rosinality, nvlabs, e4e (%(default)s)")
    parser.add_argument("--part", default="generator", help="content of an .onnx: generator, synthesis (%(default)s)")
    parser.add_argument("--psi", type=float, default=1.0, help="truncation in an .onnx of the generator (%(default)s)")
    parser.add_argument("--licence", "--license", help="for a folder's model card, as in cc-by-4.0")
    parser.add_argument("--metrics", metavar="FILE", help="for a folder's model card: an evaluation's result.json")
    parser.add_argument("--clamp", default="keep", help="limit of the activations: keep, drop (%(default)s)")
    parser.add_argument("--roles", nargs="+", metavar="ROLE", help="networks in a .safetensors, as in generator (all)")
    parser.add_argument(
        "--half", nargs="+", default=[], metavar="ROLE", help="of these, in half precision, as in encoder"
    )
    options = vars(parser.parse_args(arguments))
    from wplus.adapters import convert  # imports torch, which --help does not need
    from wplus.errors import UserError

    try:
        print(convert.convert(**options))
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    return 0
