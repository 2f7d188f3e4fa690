"""Options of methods: their classes, ranges and parsing, and the words, objects and images that they name.

Nothing here imports torch at module level, as arguments are checked before it is imported; see `sfumato.methods`.
"""
