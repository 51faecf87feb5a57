"""The web page and its API: one user's runs in that user's browser, from the files that the runs leave behind."""
