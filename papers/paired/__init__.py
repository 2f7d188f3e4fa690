"""The results of the paired edits: read, compared at equal adherence, drawn."""
