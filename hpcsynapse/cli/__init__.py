"""The command line: one thin module per verb (parse, call, print); only `main` maps errors to exit codes."""
