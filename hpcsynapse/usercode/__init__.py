"""Users' models and data: checked, taken in, kept in the store."""
