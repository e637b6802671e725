"""The command line: the only place that imports click, prints, or exits. Each verb is thin: parse, call, show."""
