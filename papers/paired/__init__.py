"""Results of the paired edits: reading, comparison at equal prompt adherence, figures and tables."""
