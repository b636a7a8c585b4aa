"""Takes the server's paths out of a text that a node of ComfyUI wrote."""

import re

_START = r"""(?:
    (?<![\w/.:~)\]-]) /{1,2} (?=[\w.~@%+-])     # /home/..., but neither a/b nor ./a nor https://
  | (?<=:) / (?=[\w.~@%+-])                     # error:/home/...
  | (?<=file://) / (?=[\w.~@%+-])
  | (?<!\w) [A-Za-z]:[\\/]                      # C:\... and C:/...
  | (?<![\w\\]) \\{2,4} [?.\w] (?=[^\s\\]*\\)   # \\server\share, \\?\C:\..., also with \ doubled
)"""
_PART = r"""[^\s'"`<>|*?,;:()\[\]{}\\/]"""
_QUOTED = re.compile(rf"(?P<quote>['\"`])(?P<path>{_START}[^\n]*?)(?P=quote)(?!\w)", re.VERBOSE)
_BARE = re.compile(
    rf"""(?P<path>{_START}
    (?:{_PART} | [\\/] | [:?](?=[\\/]) | (?<=\w)'(?=\w)
      | [ ]{{1,2}}(?={_PART}*(?:[ ]{_PART}+){{0,2}}[\\/]\w)  # a folder's name with spaces
      | [ ]?\([^()\n]{{0,20}}\)(?=[\\/])                     # Program Files (x86)
      | [ ](?=[^\s\\/]*[ ]\([^()\s]{{0,20}}\)[\\/])
    )*)""",
    re.VERBOSE,
)
_NAME = re.compile(r"[^\\/]+\.\w{1,12}(?=[.!]?\Z)")


def without_server_paths(text: str) -> str:
    """The text with each absolute path, POSIX or Windows, cut down to the file's name.

    A folder is nothing but ``...``; relative paths and web addresses stay.
    """
    quoted = _QUOTED.sub(lambda found: f"{found['quote']}{_short(found)}{found['quote']}", text)
    return _BARE.sub(_short, quoted)


def _short(found: "re.Match[str]") -> str:
    path = found["path"]
    name = _NAME.search(path)
    if name is None:
        return "..."
    return f".../{name[0]}{path[name.end() :]}"
