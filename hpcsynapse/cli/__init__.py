"""The command line: one thin module per verb (parse, call, print); only `main` maps errors to exit codes.

Before anything else is imported, modules are looked for in the right places.
"""

from hpcsynapse.job.search_path import own_modules_first

own_modules_first()
