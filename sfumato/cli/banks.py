"""`sfumato directions text` and `bank`: text directions between words, and the sentences they are computed from."""

from argparse import Namespace
from pathlib import Path

from sfumato.cli.described import print_text_direction
from sfumato.cli.model_flags import add_model, load_model
from sfumato.cli.parser import CommandParser
from sfumato.cli.report import print_json, say
from sfumato.errors import BadInput


def text_flags(parser: CommandParser) -> None:
    """Add a word or a file of sentences for each side, as in `sfumato edit --method pix2pix-zero`."""
    parser.add_argument("-o", "--out", required=True, type=Path, metavar="FILE", help="a new .safetensors file")
    for side, what in {"source": "word to replace", "target": "replacement"}.items():
        parser.add_argument(f"--{side}-word", metavar="TEXT", help=f"{what}, averaged over built-in sentences about it")
        parser.add_argument(
            f"--{side}-bank",
            type=Path,
            metavar="FILE",
            help=f"your own sentences instead of --{side}-word, one per line",
        )
    add_model(parser)
    parser.example(
        "sfumato directions text --source-word cat --target-word dog -o cat2dog.safetensors",
        "sfumato edit a.png --from cat --method pix2pix-zero --direction-file cat2dog.safetensors -o o.png",
    )


def text(arguments: Namespace) -> None:
    """Compute, save and print a direction between two words or banks."""
    from sfumato.shifts.banks import check_different, read_bank, templated

    sides = []
    for side in ("source", "target"):
        word, bank = (getattr(arguments, f"{side}_{kind}") for kind in ("word", "bank"))
        if (word is None) == (bank is None):
            raise BadInput(
                f"give exactly one of --{side}-word and --{side}-bank: a direction needs a source and a target."
            )
        sides.append(word if bank is None else read_bank(bank))
    check_different(*(templated(side) if isinstance(side, str) else side for side in sides))
    _check_out(arguments.out, ".safetensors", "a direction")
    found = load_model(arguments).text_direction(*sides)
    found.save(arguments.out)
    print_text_direction(arguments.out, found, arguments.json)


def bank_flags(parser: CommandParser) -> None:
    """Add the arguments of `sfumato directions bank`."""
    parser.add_argument("word", metavar="WORD", help="one or several words that the sentences are about")
    parser.add_argument("-o", "--out", required=True, type=Path, metavar="FILE", help="a new .txt file")
    parser.example(
        'sfumato directions bank "red cat" -o cats.txt',
        "sfumato directions text --source-bank cats.txt --target-word dog -o cat2dog.safetensors",
    )


def bank(arguments: Namespace) -> None:
    """Write the built-in sentences about a word to a file, for editing by hand."""
    from sfumato.shifts.banks import templated, write_bank

    if not arguments.word.strip():
        raise BadInput("the word is empty: give one or several words that the sentences are about.")
    _check_out(arguments.out, ".txt", "a bank")
    sentences = templated(arguments.word)
    write_bank(arguments.out, sentences)
    if arguments.json:
        print_json({"file": arguments.out, "sentences": sentences})
    else:
        say(f"{arguments.out}: {len(sentences)} sentences, one per line")


def _check_out(out: Path, ending: str, what: str) -> None:
    """Raise BadInput for an existing file, which may have been edited by hand, and for one that cannot be written."""
    if out.suffix.lower() != ending or not out.absolute().parent.is_dir():
        raise BadInput(f"{out}: {what} is written to a {ending} file in a folder that exists.")
    if out.exists() or out.is_symlink():
        raise BadInput(f"{out} exists already: choose another name, or delete it first.")
