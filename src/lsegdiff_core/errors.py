"""The one exception for mistakes that the user can mend."""


class LSegDiffError(ValueError):
    """Bad input, said in one line that names the file or field and a way out.

    The command line prints the message and exits with code 2; the dock shows it.
    """
