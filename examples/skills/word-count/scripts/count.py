"""The most frequent words of a text."""

import argparse
import re
from collections import Counter
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--top", type=int, default=10)
parser.add_argument("--ignore-case", action="store_true")
parser.add_argument("text", type=Path)
parser.add_argument("out", type=Path)
given = parser.parse_args()

text = given.text.read_text()
words = Counter(re.findall(r"\w+", text.lower() if given.ignore_case else text))
lines = [f"{word},{count}" for word, count in words.most_common(given.top)]
given.out.write_text("\n".join(["word,count", *lines]) + "\n")
print(f"{words.total()} words, {len(words)} different ones")
