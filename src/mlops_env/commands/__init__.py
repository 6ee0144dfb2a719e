"""One file a verb: parse, call, exit code."""
