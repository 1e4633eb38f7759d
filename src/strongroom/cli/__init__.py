"""Commands: thin translators from words on a terminal to calls, and from results and errors back to text."""
