"""Keys that have broken S3 servers before, each with what is odd about it.

Every client file stores and finds these; a key is a str whose UTF-8 form is at most 1,024 bytes.
"""

PLAIN = [
    "plain",
    "with space",
    " leading and trailing ",
    "plus+plus",
    "percent%41%zz%2F",
    "unicode-\u00e9\u4e2d\u6587-\U0001f600",
    "combining-e\u0301",
    "parens(1)!*'.txt",
    'quote"and&amp;<tag>',
    "semi;colon:,@=$&",
    "back\\slash",
    "hash#question?a=b",
    "tilde~-_.",
    "[brackets]{braces}|pipe^`",
    "dir/file",
    "dir/sub/file",
    "ends.with.dot.",
]

# S3 takes these as they are; file systems behind a server (MinIO's, for one) cannot.
SLASHES = ["double//slash", "/leading", "//", "trailing/", "trailing", "trailing/x", "dir/"]

LONG = ["L" * 1024, "\u00e9" * 512]

# XML 1.0 cannot carry these; a listing must be asked for with encoding-type=url.
CONTROL = ["tab\there", "newline\nhere", "return\rhere", "bell\x07", "unit\x1fsep", "del\x7f"]

ALL = PLAIN + SLASHES + LONG + CONTROL
