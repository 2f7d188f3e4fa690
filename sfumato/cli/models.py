"""`sfumato models`: the bundled models and their folders."""

from argparse import Namespace
from collections.abc import Sequence

from sfumato.cli.parser import CommandParser
from sfumato.cli.report import print_json, print_table, say
from sfumato.errors import BadInput

_OPTIONS = """options of the commands that load a model, in addition to --model and --device:
  --dtype NAME            auto (default: fp32), fp32, bf16, fp16
  --config FOLDER         for a .safetensors file: diffusers folder of the same architecture
  --lora FILE[:SCALE]     fuse a LoRA into the weights; scale 1 by default; repeatable
  --textual-inversion FILE[:WORD]
                          add the word of an embedding to the model; repeatable
  --prompt-weights        read (word:1.4) in prompts as the weight of a word, 0 to 10
  --prompt-chunks N       read prompts in N chunks of 75 tokens; default 1
  --offload               keep weights in main memory until the GPU needs them"""


def describe(parser: CommandParser, words: Sequence[str]) -> None:
    """Add the action `path` and the name of a model."""
    parser.usage = "sfumato models [path NAME] [--json]"
    parser.description = f"{parser.description}\n\n{_OPTIONS}"
    parser.add_argument("action", nargs="?", choices=["path"], metavar="path", help="print the folder of a model")
    parser.add_argument("name", nargs="?", metavar="NAME", help="bundled model")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.example("sfumato models", "sfumato models path emoji")


def run(arguments: Namespace) -> None:
    """List the models, or print the folder of one."""
    from sfumato.models.bundled import bundled_path, list_models

    if arguments.action == "path":
        if arguments.name is None:
            raise BadInput("name the model whose folder is to be printed: sfumato models path NAME.")
        folder = bundled_path(arguments.name)
        print_json({"name": arguments.name, "folder": folder}) if arguments.json else say(str(folder))
        return
    models = list_models()
    if arguments.json:
        found = [{"name": m.name, "folder": m.folder, "summary": m.summary} for m in models]
        print_json({"models": found})
        return
    if not models:
        say("sfumato: this installation contains no models.", error=True)
    print_table([[m.name, m.summary, str(m.folder)] for m in models])
