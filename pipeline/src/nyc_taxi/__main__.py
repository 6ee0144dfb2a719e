import sys

from nyc_taxi.cli import main

sys.exit(main())
