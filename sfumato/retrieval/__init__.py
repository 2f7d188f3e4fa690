"""Search for images by content and style: an index of descriptors in LanceDB (the extra `search`)."""
