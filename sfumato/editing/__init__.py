"""What editing methods work with: the registry, the job that a method is given, and generation from noise.

Nothing here imports torch at module level; see `sfumato.methods`.
"""
