"""`python -m hpcsynapse.job TOOL ...`; nothing is imported before modules are looked for in the right places."""

import sys

from hpcsynapse.job.search_path import own_modules_first

if __name__ == "__main__":
    own_modules_first()
    from hpcsynapse.job.tools import main

    sys.exit(main(sys.argv[1:]))
