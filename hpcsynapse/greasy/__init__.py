"""Task lists inside an allocation: written, checked, run by Greasy or without it, and judged by what they left."""
