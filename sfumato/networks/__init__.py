"""Load networks and tokenizers of diffusers and transformers from untrusted folders.

The libraries do not open such a folder themselves. Its files are validated first: they must be regular files inside the
folder, weights must be safetensors files with a valid header, configurations may contain only known settings with plain
values, and names and shapes of the weights must be those of the network. The validated content is passed to the
libraries in a temporary folder, so that they cannot open, import or download anything else.
"""
