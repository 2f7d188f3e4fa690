"""The published editing methods, one file per method; `sfumato.methods.registry` finds them by name."""
