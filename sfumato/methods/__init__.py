"""The published methods, one file each; found through `sfumato.methods.registry`."""
