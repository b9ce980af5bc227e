"""The metadata is in setup.cfg; here README becomes a page that needs no other file."""

import re
from pathlib import Path

from setuptools import setup

PICTURE = re.compile(r"^!\[[^]]*\]\((?!\w+:)[^)]*\)\n+", re.MULTILINE)
LINK = re.compile(r"\[([^]]+)\]\((?!\w+:|#)([^)]+)\)")

page = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
page = LINK.sub(r"\1 (`\2`)", PICTURE.sub("", page))
setup(long_description=page, long_description_content_type="text/markdown")
