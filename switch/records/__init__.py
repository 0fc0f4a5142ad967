"""Record specs of the marketing dialects: data, one file per wire format and version."""
