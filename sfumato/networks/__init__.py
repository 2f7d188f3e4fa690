"""Networks and tokenizers of diffusers and transformers, from folders that may come from anywhere.

The libraries never see such a folder. Its files are looked at first: regular files inside the folder, weights in
safetensors with a header that is sound, settings that are known and plain, a size that the weights bear out. What is
left is handed over in a folder of our own, so that nothing else of theirs is opened, imported or asked about.
"""
