"""Reading, comparison at equal adherence, and figures of the paired edits."""
